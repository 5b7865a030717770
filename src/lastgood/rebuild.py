"""The two halves that a rollback and a restore share: fill an empty database from a dump, and prove the result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from psycopg import IsolationLevel

from lastgood import fault
from lastgood.dump.formats import DumpSource
from lastgood.dump.reader import read
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Corrupt, Failed
from lastgood.events import Caution, Emit
from lastgood.facts import Facts
from lastgood.facts.compare import Comparison, compare
from lastgood.facts.of_database import facts_of_database
from lastgood.load import Loaded, Loader
from lastgood.postgres import integrity
from lastgood.postgres.server import Connection
from lastgood.postgres.statistics import analyze
from lastgood.repairs import USUAL_PATH, Rules
from lastgood.repairs.accepted import accepted

SHOWN = 20


class ProofFailed(Failed):
    """The restored database is not what the restore point says; ``comparison`` names each difference."""

    code = "proof_failed"

    def __init__(self, message: str, *, comparison: Comparison, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.comparison = comparison


def rules_for(live: Connection, facts: Facts, *, strict: bool, allow_orphans: bool) -> Rules:
    """The rules of a load: extensions get the version that the restore point knows, else that of the live database;
    and what its sessions find without naming a schema, repairs may use."""
    versions: dict[str, str] = dict(live.execute("SELECT extname, extversion FROM pg_catalog.pg_extension").fetchall())
    versions |= {each.name: each.version for each in facts.extensions if each.version is not None}
    # Ours is empty; theirs comes from the settings of the role and of the database.
    row = live.execute("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'").fetchone()
    path = row[0] if row is not None else USUAL_PATH
    return Rules(strict=strict, allow_orphans=allow_orphans, extensions=versions, search_path=path)


def rebuild(
    connection: Connection,
    source: DumpSource,
    summary: DumpSummary,
    name: str,
    rules: Rules,
    emit: Emit,
    cancelled: Callable[[], bool],
) -> Loaded:
    """Loads the whole dump over ``connection``, to an empty database; ``rules`` say what may be left out or repaired.

    Raises Failed at the first error that no rule allows, Corrupt when the file changed since it was checked.
    """
    before = source.fingerprint()
    loader = Loader(
        connection,
        name=name,
        position=lambda: source.position,
        size=source.size,
        rules=rules,
        emit=emit,
        cancelled=cancelled,
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
) -> Comparison:
    """Reads the whole database in one snapshot and compares it with the restore point's facts, which are the oracle.
    Meanwhile ``beside``, a second connection to it in autocommit mode, gathers the planner's statistics and looks up
    every foreign key: that is the server's work, reading is ours.

    Raises ProofFailed, with every difference.
    """
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with ThreadPoolExecutor(1, thread_name_prefix="lastgood-beside") as pool:
        broken = pool.submit(_settle, beside, emit)
        with connection.transaction():
            found = facts_of_database(
                connection, like=expected, beyond_like=True, emit=emit, cancelled=cancelled, stage="prove"
            )
            comparison = accepted(connection, compare(expected, found))
        fault.point("prove.before_verdict")
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


def _settle(connection: Connection, emit: Emit) -> list[str]:
    """Statistics first: the look-ups are planned with them. Returns what is broken."""
    for each in analyze(connection):
        emit(Caution(each))
    with connection.transaction():
        return list(_broken(connection))


def _broken(connection: Connection) -> Iterator[str]:
    """What the catalogue calls sound and is not. A view left without data, or an index that lacks a partition's,
    may be just what the restore point holds."""
    for key in integrity.foreign_keys(connection):
        if key.validated and key.orphans:
            yield (
                f"foreign key {key.name} of {key.schema_name}.{key.table}: {key.orphans} rows have no match in "
                f"{key.references}, {', '.join(key.samples)} for example"
            )
    for finding in integrity.findings(connection):
        if finding.kind == "invalid index" and "not all partitions" not in finding.detail:
            yield f"index {finding.what} is not valid ({finding.detail})"
        elif finding.kind == "unfinished view":
            yield f"view {finding.what} was left unfinished ({finding.detail})"
