"""The two halves that a rollback and a restore share: fill an empty database from a dump, and prove the result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

from psycopg import IsolationLevel, sql

from lastgood import fault
from lastgood.dump.deferral import Division
from lastgood.dump.formats import DumpSource
from lastgood.dump.names import Relation
from lastgood.dump.reader import read
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Corrupt, Failed
from lastgood.events import Emit
from lastgood.facts import Facts
from lastgood.facts.compare import Comparison, compare
from lastgood.facts.of_database import facts_of_database
from lastgood.load import Loaded, Loader
from lastgood.postgres import integrity
from lastgood.postgres.server import Connection

SHOWN = 20
LARGE = 1 << 20  # bytes

_LARGE = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND pg_catalog.pg_relation_size(c.oid) >= %s
"""


class ProofFailed(Failed):
    """The restored database is not what the restore point says; ``comparison`` names each difference."""

    code = "proof_failed"

    def __init__(self, message: str, *, comparison: Comparison, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.comparison = comparison


def rebuild(
    connection: Connection,
    source: DumpSource,
    summary: DumpSummary,
    name: str,
    extensions: Mapping[str, str],
    emit: Emit,
    cancelled: Callable[[], bool],
    division: Division | None = None,
) -> Loaded:
    """Loads the whole dump over ``connection``, to an empty database. ``extensions``: name → version to install;
    ``division``: what is left for later, if anything may be.

    Raises Failed at the first error that no rule allows, Corrupt when the file changed since it was checked.
    """
    before = source.fingerprint()
    loader = Loader(
        connection,
        name=name,
        position=lambda: source.position,
        size=source.size,
        extensions=extensions,
        emit=emit,
        cancelled=cancelled,
        text_of=(division or Division()).text_of,
    )
    loaded = loader.load(iter(read(source, database=summary.database)))
    if source.fingerprint() != before:
        raise Corrupt(
            f'cannot use "{name}": the file changed while it was read',
            hint="Find out what writes to it, and begin again.",
        )
    return loaded


def prove(
    connection: Connection,
    expected: Facts,
    name: str,
    emit: Emit,
    cancelled: Callable[[], bool],
    *,
    beside: Connection,
    division: Division | None = None,
) -> Comparison:
    """Reads the whole database in one snapshot and compares it with the restore point's facts, which are the oracle.
    Meanwhile ``beside``, a second connection to it in autocommit mode, gathers the planner's statistics and looks up
    every foreign key: that is the server's work, reading is ours. What was left for later (``division``) is not missed;
    a foreign key that entered unproved is proved here.

    Raises ProofFailed, with every difference.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with ThreadPoolExecutor(1, thread_name_prefix="lastgood-beside") as pool:
        broken = pool.submit(_settle, beside, division)
        with connection.transaction():
            found = facts_of_database(
                connection, like=expected, beyond_like=True, emit=emit, cancelled=cancelled, stage="prove"
            )
        fault.point("prove.before_verdict")
        comparison = _compared(expected, found, division)
        lines = [f"{d.what}: expected {d.expected}, found {d.found}" for d in comparison.differences] + broken.result()
    if lines:
        raise ProofFailed(
            f'cannot use "{name}": it differs from the restore point in {len(lines)} '
            + ("thing" if len(lines) == 1 else "things")
            + "".join(f"\n  {line}" for line in lines[:SHOWN])
            + (f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""),
            comparison=comparison,
            hint="Run it again with --keep-shadow to look at the restored database, or choose another restore point: "
            "lastgood points",
        )
    return comparison


def _compared(expected: Facts, found: Facts, division: Division | None) -> Comparison:
    if division is None or not division.indexes:
        return compare(expected, found)
    later = {str(index) for index in division.indexes}
    counts = dict(expected.object_counts)
    if "index" in counts:
        counts["index"] -= len(later)
    objects = tuple(each for each in expected.objects if not (each.kind == "index" and each.identity in later))
    comparison = compare(expected.model_copy(update={"object_counts": counts, "objects": objects}), found)
    remark = f"Indexes that are built after the reopening were not compared: {', '.join(sorted(later))}."
    return comparison.model_copy(update={"not_compared": (*comparison.not_compared, remark)})


def _settle(connection: Connection, division: Division | None) -> list[str]:
    """Statistics first: the look-ups are planned with them. Returns what is broken."""
    if division is None:
        connection.execute("ANALYZE")
    else:
        # Small tables can wait: the planner sees their size, and does nothing foolish with so few rows.
        for schema, table in connection.execute(_LARGE, [LARGE]).fetchall():
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table)))
    with connection.transaction():
        return list(_broken(connection, division.unproved if division is not None else frozenset()))


def _broken(connection: Connection, unproved: Collection[tuple[Relation, str]]) -> Iterator[str]:
    """What the catalogue calls sound and is not. A view left without data, or an index that lacks a partition's,
    may be just what the restore point holds."""
    for each in integrity.keys(connection):
        if not each.validated and (Relation(each.schema_name, each.table), each.name) not in unproved:
            continue
        key = integrity.look_up(connection, each)
        if key.orphans:
            yield (
                f"foreign key {key.name} of {key.schema_name}.{key.table}: {key.orphans} rows have no match in "
                f"{key.references}, {', '.join(key.samples)} for example"
            )
    for finding in integrity.findings(connection):
        if finding.kind == "invalid index" and "not all partitions" not in finding.detail:
            yield f"index {finding.what} is not valid ({finding.detail})"
        elif finding.kind == "unfinished view":
            yield f"view {finding.what} was left unfinished ({finding.detail})"
