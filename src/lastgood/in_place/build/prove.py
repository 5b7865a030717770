"""The proof of staging schemas: their rows, sequences and definitions equal those of the restore point.

Rows are compared by the digests of the restore point's facts. Definitions are compared as text: pg_dump writes staging
again, and each command must be one of those that the scratch database had, which were compared with the facts. The
foreign keys to tables that do not go back are added in between. Only then the schemas are marked as *proved*.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from psycopg import IsolationLevel

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.names import Relation
from lastgood.dump.script import ScriptStep
from lastgood.dump.statements import Kind, Setting, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.events import Note
from lastgood.facts import Facts, FactsDifference
from lastgood.facts.compare import FactsComparison, compare
from lastgood.facts.of_database import facts_of_database
from lastgood.facts.of_dump import ONLY_COUNTED
from lastgood.facts.settled import settled
from lastgood.in_place import marks
from lastgood.in_place.build import oid_names
from lastgood.in_place.build.confined import ROUNDS, Confined, close, give, tie_to_platform
from lastgood.in_place.build.left_out import LeftOut
from lastgood.in_place.build.staged import facts_in_staging, set_state
from lastgood.in_place.definitions.dumped import definitions_in, dumped, left_to_the_swap
from lastgood.in_place.definitions.rewrite import Rewritten
from lastgood.in_place.platform import foreign_key_rules, keys
from lastgood.load.crew import Connect
from lastgood.load.rebuild import Dump, ProofFailed, unchanged
from lastgood.postgres import binaries
from lastgood.postgres.server import Connection, Target, quiet_event_triggers
from lastgood.text.redact import visible
from lastgood.text.units import counted

SHOWN = 20
# Settings that decide how a table or an index is created; all others leave no trace.
_SHAPING = frozenset({"default_tablespace", "default_table_access_method", "default_with_oids"})
_NOT_VALID = " NOT VALID"
# A command's text, and the settings that shape what it creates.
_Command = tuple[str, tuple[str, ...]]
_SHAPED = frozenset({Kind.TABLE, Kind.MATERIALIZED_VIEW, Kind.INDEX, Kind.PRIMARY_KEY, Kind.UNIQUE, Kind.EXCLUSION})


@dataclass(frozen=True, slots=True)
class Proof:
    """The proof of staging: ``comparison`` has the tables under their staging names. ``left_out``: the rows that
    followed the rule of a foreign key because their parent was deleted; the comparison includes them."""

    comparison: FactsComparison
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
    allow_orphans: bool = False,
    confined: Confined | None = None,
    closed: Callable[[], None] = lambda: None,
) -> Proof:
    """Prove the staging schemas of a run, and mark them. ``dump`` is the restore point; ``same``: the tables that were
    read back during the load (``Loaded.same``). ``target`` is the live database, for pg_dump. ``allow_orphans``: a
    foreign key among the staged tables may be NOT VALID, as the load left it. ``confined``: the role that built them;
    it is closed, and what it built is handed over and verified. ``closed`` is called when no code of the restore point
    can run any more, so that the operator may query staging.

    May run again after an interruption: rows that were left out are in the marks. Raises ProofFailed with every
    difference, Failed when a foreign key can't be added, Interrupted.
    """
    facts, again, name = dump.facts, dump.again, dump.name
    manifest = manifest_digest(facts)
    renamed = oid_names.in_rows(dump, rewritten, context.cancelled).changed
    with connect("read marks") as connection:
        major = connection.info.server_version // 10000
        left_out = _left_out(connection, run)
        keys.drop(connection, rewritten.schemas.values(), context.cancelled)  # of an earlier attempt

    def in_staging() -> Facts:
        nonlocal facts
        facts = again() if _counted(facts) else facts
        return facts_in_staging(facts, rewritten.schemas, foreign_key_rules.combined(left_out, renamed))

    if confined is not None:
        left_out = tie_to_platform(confined, rewritten, run, in_staging, context.cancelled)
        close(confined)
        if left_out:
            with connect("record rows") as connection:
                quiet_event_triggers(connection)
                foreign_key_rules.record(connection, run, left_out)
    closed()
    with connect("prove") as connection:
        changed = foreign_key_rules.combined(left_out, renamed)
        facts, comparison = _rows(connection, facts, rewritten, changed, same, again, context)
    _stop_at(comparison.differences, comparison, name)
    fault.point("prove.before_verdict")
    if confined is not None:
        give(confined, rewritten, name, context.cancelled, context)
    else:
        left_out = _tie_to_platform(rewritten, run, left_out, in_staging, context.cancelled, connect)
    for each in left_out:
        context.emit(Note(f"{_shown(each)}: the referenced rows were deleted since the restore point"))
    differences = _definitions(rewritten, target, major, context.cancelled, allow_orphans=allow_orphans)
    _stop_at(differences, comparison, name)
    fault.point("inplace.before_proved")
    with connect("mark staging schemas") as connection:
        # The commit point of the build: the swap refuses schemas without this mark.
        set_state(connection, run, "proved", manifest=manifest)
    return Proof(comparison, left_out)


def _tie_to_platform(
    rewritten: Rewritten,
    run: str,
    left_out: tuple[LeftOut, ...],
    in_staging: Callable[[], Facts],
    cancelled: Callable[[], bool],
    connect: Connect,
) -> tuple[LeftOut, ...]:
    """Add the foreign keys to tables that do not go back, after their rules were executed for rows of deleted
    parents. Returns all rows that were left out."""
    with connect("foreign keys") as connection:
        quiet_event_triggers(connection)
        for left in reversed(range(ROUNDS)):
            newly = foreign_key_rules.apply(connection, run, rewritten, in_staging)
            left_out = foreign_key_rules.combined(left_out, newly)
            violated = keys.add(connection, rewritten.keys, cancelled)
            if not violated:
                break
            if not left:
                raise keys.being_deleted(violated[0])
            keys.drop(connection, rewritten.schemas.values(), cancelled, only=violated)
    return left_out


def _shown(each: LeftOut) -> str:
    removed, changed = counted(each.removed, "row"), counted(each.changed, "row")
    parts = [f"{removed} left out"] * bool(each.removed) + [f"{changed} changed"] * bool(each.changed)
    return f"{each.schema_name}.{each.table}: {', '.join(parts)}"


def _stop_at(differences: Collection[FactsDifference], comparison: FactsComparison, name: str) -> None:
    if not differences:
        return
    lines = [f"{each.what}: expected {each.expected}, found {each.found}" for each in differences]
    raise ProofFailed(
        f'cannot use the restored schemas: they differ from "{visible(name)}" in {counted(len(lines), "place")}:'
        + "".join(f"\n  {visible(line)}" for line in lines[:SHOWN])
        + (f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""),
        comparison=comparison.model_copy(update={"differences": tuple(differences)}),
        hint="Choose another restore point: lastgood points",
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
) -> tuple[Facts, FactsComparison]:
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
        found = facts_of_database(
            connection,
            like=expected,
            objects=False,
            large_objects=False,
            known=known,
            context=context,
            stage="prove",
        )
    # Of the rest of the database nothing is compared.
    found = found.model_copy(
        update={
            name: getattr(expected, name)
            for name in ("extensions", "languages", "large_objects", "migration", "objects", "object_counts")
        }
    )
    return facts, compare(expected, found, same=known.keys())


# Definitions ----------------------------------------------------------------------------------------------------------


def _definitions(
    rewritten: Rewritten, target: Target, major: int, cancelled: Callable[[], bool], *, allow_orphans: bool
) -> list[FactsDifference]:
    """The differences between the definitions of staging and the rewritten ones, command by command."""
    program = binaries.find("pg_dump", at_least=major)
    staging = tuple(rewritten.schemas.values())
    found = _commands(definitions_in(dumped(program.path, target, staging, cancelled)), staging)
    expected = _commands(rewritten.summary, staging)
    for key in rewritten.keys:
        expected.update((settled(text.decode()), ()) for text in (key.command, key.comment) if text is not None)
    missing, surplus = expected - found, found - expected
    if allow_orphans:
        for text, settings in missing & Counter({_validated(each): count for each, count in surplus.items()}):
            del missing[text, settings]
            del surplus[text + _NOT_VALID, settings]
    return [
        *(
            FactsDifference(kind="definition", what=_beginning(text), expected="present", found="missing")
            for text, _ in sorted(missing.elements())
        ),
        *(
            FactsDifference(kind="definition", what=_beginning(text), expected="absent", found="present")
            for text, _ in sorted(surplus.elements())
        ),
    ]


def _validated(command: _Command) -> _Command:
    """A command without the last words of one that adds a foreign key."""
    text, settings = command
    return (text.removesuffix(_NOT_VALID) if " FOREIGN KEY " in text else text), settings


def _commands(summary: DumpSummary, staging: Collection[str]) -> Counter[_Command]:
    """The commands of a dump, each with the settings that shape what it creates."""
    found: Counter[_Command] = Counter()
    for item in summary.script.items:
        if not isinstance(item, ScriptStep) or item.command.verdict is not Verdict.RUN:
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
