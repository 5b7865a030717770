"""The proof of staging schemas: their rows, sequences and definitions equal those of the restore point.

Rows are compared by the digests of the restore point's facts. Definitions are compared as text: pg_dump writes staging
again, and each command must be one of those that the scratch database had, which were compared with the facts. The
foreign keys to tables that do not go back are added in between. Only then the schemas are marked as *proved*.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import psycopg
from psycopg import IsolationLevel, errors, sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.names import Relation
from lastgood.dump.script import Step
from lastgood.dump.statements import Kind, Setting, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed, Interrupted
from lastgood.events import Note
from lastgood.facts import Difference, Facts
from lastgood.facts.compare import Comparison, compare
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import ONLY_COUNTED
from lastgood.facts.settled import settled
from lastgood.in_place import deleted_parents, marks
from lastgood.in_place.left_out import LeftOut
from lastgood.in_place.rewrite import PlatformKey, Rewritten, definitions_in, dumped, left_to_the_swap
from lastgood.in_place.staged import facts_in_staging, set_state
from lastgood.load.crew import Connect
from lastgood.load.rebuild import Dump, ProofFailed, unchanged
from lastgood.postgres import binaries
from lastgood.postgres.errors import words
from lastgood.postgres.server import Connection, Target
from lastgood.text.redact import visible
from lastgood.text.units import counted

SHOWN = 20
# Writers of the platform's table queue behind each try.
LOCK_TIMEOUT = "2s"
TRIES = 10
PAUSE_SECONDS = 1.0
# Parents may be deleted between two looks.
ROUNDS = 3
# Settings that decide how a table or an index is created; all others leave no trace.
_SHAPING = frozenset({"default_tablespace", "default_table_access_method", "default_with_oids"})
_SHAPED = frozenset({Kind.TABLE, Kind.MATERIALIZED_VIEW, Kind.INDEX, Kind.PRIMARY_KEY, Kind.UNIQUE, Kind.EXCLUSION})


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof of staging: ``comparison`` has the tables under their staging names. ``left_out``: the rows that
    followed the rule of a foreign key because their parent was deleted; the comparison includes them."""

    comparison: Comparison
    left_out: tuple[LeftOut, ...]


def manifest_digest(facts: Facts) -> str:
    """The digest of a restore point's facts, for the mark of what was proved against them, as 64 hex digits."""
    return hashlib.sha256(facts.model_dump_json().encode()).hexdigest()


def prove(
    dump: Dump,
    rewritten: Rewritten,
    run: str,
    target: Target,
    context: Context,
    *,
    connect: Connect,
    same: Mapping[Relation, int],
) -> Proof:
    """Prove the staging schemas of a run, and mark them. ``dump`` is the restore point; ``same``: the tables that were
    read back during the load (``Loaded.same``). ``target`` is the live database, for pg_dump.

    May run again after an interruption: rows that were left out are in the marks. Raises ProofFailed with every
    difference, Failed when a foreign key can't be added, Interrupted.
    """
    facts, again, name = dump.facts, dump.again, dump.name
    manifest = manifest_digest(facts)
    with connect("read marks") as connection:
        left_out = _left_out(connection, run)
        _drop_keys(connection, rewritten.keys)
    with connect("prove") as connection:
        facts, comparison = _rows(connection, facts, rewritten, left_out, same, again, context)
    _stop_at(comparison.differences, comparison, name)
    fault.point("prove.before_verdict")

    def in_staging() -> Facts:
        nonlocal facts
        facts = again() if _counted(facts) else facts
        return facts_in_staging(facts, rewritten.schemas, left_out)

    with connect("foreign keys") as connection:
        for left in reversed(range(ROUNDS)):
            newly = deleted_parents.apply(connection, run, rewritten, in_staging)
            left_out = deleted_parents.combined(left_out, newly)
            violated = _add_keys(connection, rewritten.keys, context.cancelled)
            if not violated:
                break
            if not left:
                raise Failed(
                    f"cannot validate {visible(violated[0].what)}: rows of {violated[0].references} are deleted "
                    "while it is validated",
                    hint="Run the command again.",
                )
            _drop_keys(connection, violated)
        major = connection.info.server_version // 10000
    for each in left_out:
        context.emit(Note(f"{_shown(each)}: their parents were deleted since the restore point"))
    differences = _definitions(rewritten, target, major, context.cancelled)
    _stop_at(differences, comparison, name)
    with connect("mark staging schemas") as connection:
        # The commit point of the build: the swap refuses schemas without this mark.
        set_state(connection, run, "proved", manifest=manifest)
    return Proof(comparison, left_out)


def _shown(each: LeftOut) -> str:
    removed, changed = counted(each.removed, "row"), counted(each.changed, "row")
    parts = [f"{removed} left out"] * bool(each.removed) + [f"{changed} changed"] * bool(each.changed)
    return f"{each.schema_name}.{each.table}: {', '.join(parts)}"


def _stop_at(differences: Collection[Difference], comparison: Comparison, name: str) -> None:
    if not differences:
        return
    lines = [f"{each.what}: expected {each.expected}, found {each.found}" for each in differences]
    raise ProofFailed(
        f'cannot use the staging schemas of "{visible(name)}": {counted(len(lines), "difference")} from it'
        + "".join(f"\n  {visible(line)}" for line in lines[:SHOWN])
        + (f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""),
        comparison=comparison.model_copy(update={"differences": tuple(differences)}),
        hint="Choose another restore point: lastgood points.",
    )


# Rows -----------------------------------------------------------------------------------------------------------------


def _left_out(connection: Connection, run: str) -> tuple[LeftOut, ...]:
    found = marks.marked(connection, run=run, role="staging")
    return tuple(one for each in found if each.ours for one in each.mark.left_out)


def _counted(facts: Facts) -> bool:
    return any(table.why_no_digest == ONLY_COUNTED for table in facts.tables)


def _rows(
    connection: Connection,
    facts: Facts,
    rewritten: Rewritten,
    left_out: Iterable[LeftOut],
    same: Mapping[Relation, int],
    again: Callable[[], Facts],
    context: Context,
) -> tuple[Facts, Comparison]:
    """Compare the rows and sequences of staging in one snapshot. Returns the restore point's facts too, with digests
    where the rows had to be read again."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    with connection.transaction():
        expected = facts_in_staging(facts, rewritten.schemas, left_out)
        known = unchanged(connection, expected, same)
        if any(
            table.why_no_digest == ONLY_COUNTED and Relation(table.schema_name, table.name) not in known
            for table in expected.tables
        ):
            facts = again()
            expected = facts_in_staging(facts, rewritten.schemas, left_out)
        found = facts_of_database(connection, like=expected, objects=False, known=known, context=context, stage="prove")
    # Of the rest of the database nothing is compared.
    found = found.model_copy(
        update={
            name: getattr(expected, name)
            for name in ("extensions", "languages", "large_objects", "migration", "objects", "object_counts")
        }
    )
    return facts, compare(expected, found, same=known.keys())


# Foreign keys to the tables that stay ---------------------------------------------------------------------------------

_HAS_KEY = """
SELECT k.convalidated, c.relkind = 'p' FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conname = %s
WHERE n.nspname = %s AND c.relname = %s
"""
NOT_VALID_ON_PARTITIONED = 180000


def _add_keys(connection: Connection, keys: Iterable[PlatformKey], cancelled: Callable[[], bool]) -> list[PlatformKey]:
    """Add each foreign key by itself, and validate it. Returns those that rows violate.

    The lock on the platform's table is held for an instant: the key is added NOT VALID, and its validation does not
    block writers. Before 18, a partitioned table can't have such a key, and the lock is held until its rows are
    checked.
    """
    violated = []
    for key in keys:
        row = connection.execute(_HAS_KEY, [key.name, key.table.schema, key.table.name]).fetchone()
        valid, partitioned = row if row is not None else (None, False)
        table = sql.Identifier(key.table.schema, key.table.name)
        try:
            if valid is None:
                at_once = partitioned and connection.info.server_version < NOT_VALID_ON_PARTITIONED
                later = b"" if at_once or not key.validated else b" NOT VALID"
                _patiently(connection, key, key.command + later, cancelled)
                valid = at_once
            if not valid and key.validated:
                validate = sql.SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}").format(table, sql.Identifier(key.name))
                _patiently(connection, key, validate.as_bytes(connection), cancelled)
        except errors.ForeignKeyViolation:
            violated.append(key)
    return violated


def _patiently(connection: Connection, key: PlatformKey, command: bytes, cancelled: Callable[[], bool]) -> None:
    """Execute a command with a limit for its wait for locks, several times. Raises Failed."""
    for left in reversed(range(TRIES)):
        if cancelled():
            raise Interrupted("interrupted while foreign keys were added")
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
                connection.execute(command)
            return
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if not left:
                raise Failed(
                    f"cannot add {visible(key.what)}: {words(error)} in {TRIES} tries",
                    hint=f"End long transactions that use {key.references}, then run the command again.",
                ) from error
            time.sleep(PAUSE_SECONDS)  # the queue behind the try passes
        except errors.ForeignKeyViolation:
            raise
        except psycopg.Error as error:
            raise Failed(
                f"cannot add {visible(key.what)}: {words(error)}", hint="Fix the cause, then run the command again."
            ) from error


def _drop_keys(connection: Connection, keys: Iterable[PlatformKey]) -> None:
    """Drop foreign keys of an earlier attempt: through them, the platform deletes rows of staging."""
    for key in keys:
        row = connection.execute(_HAS_KEY, [key.name, key.table.schema, key.table.name]).fetchone()
        if row is not None and row[0] is not None:
            command = sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(
                sql.Identifier(key.table.schema, key.table.name), sql.Identifier(key.name)
            )
            _patiently(connection, key, command.as_bytes(connection), lambda: False)


# Definitions ----------------------------------------------------------------------------------------------------------


def _definitions(rewritten: Rewritten, target: Target, major: int, cancelled: Callable[[], bool]) -> list[Difference]:
    """The differences between the definitions of staging and the rewritten ones, command by command."""
    program = binaries.find("pg_dump", at_least=major)
    staging = tuple(rewritten.schemas.values())
    found = _commands(definitions_in(dumped(program.path, target, staging, cancelled)), staging)
    expected = _commands(rewritten.summary, staging)
    expected.update((settled(key.command.decode()), ()) for key in rewritten.keys)
    return [
        *(
            Difference(kind="definition", what=_beginning(text), expected="present", found="missing")
            for text, _ in sorted((expected - found).elements())
        ),
        *(
            Difference(kind="definition", what=_beginning(text), expected="absent", found="present")
            for text, _ in sorted((found - expected).elements())
        ),
    ]


def _commands(summary: DumpSummary, staging: Collection[str]) -> Counter[tuple[str, tuple[str, ...]]]:
    """The commands of a dump, each with the settings that shape what it creates."""
    found: Counter[tuple[str, tuple[str, ...]]] = Counter()
    for item in summary.script.items:
        if not isinstance(item, Step) or item.command.verdict is not Verdict.RUN:
            continue
        command = item.command
        if command.kind in (Kind.SETTING, Kind.STATISTICS_CALL) or left_to_the_swap(command, staging, keys=False):
            continue
        settings = tuple(
            f"{setting.detail.name} {setting.detail.value}"
            for name, setting in item.state
            if name in _SHAPING and isinstance(setting.detail, Setting) and command.kind in _SHAPED
        )
        found[settled(command.statement.text.decode()), settings] += 1
    return found


def _beginning(text: str) -> str:
    return " ".join(text.split())[:200]
