"""The two halves that a rollback and a restore share: load a dump into an empty database, and prove the result."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace

from psycopg import IsolationLevel

from lastgood import fault
from lastgood.context import Context, Pace
from lastgood.dump.deferral import Division
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.names import Relation, quoted
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Corrupt, Failed, LastgoodError
from lastgood.events import Caution, Emit, Note
from lastgood.facts import Facts, TableFacts, time_zone
from lastgood.facts.compare import FactsComparison, compare
from lastgood.facts.of_database import facts_of_database, pinned
from lastgood.facts.of_dump import ONLY_COUNTED
from lastgood.load import costs, servers_rights
from lastgood.load.builder import Builder
from lastgood.load.crew import Connect, load
from lastgood.load.expected import costs_file
from lastgood.load.loaded import Loaded
from lastgood.load.options import Options, ReadBack
from lastgood.load.repairs import USUAL_PATH, Repaired, Rules
from lastgood.load.repairs.extensions import absent
from lastgood.load.repairs.foreign_keys import accepted
from lastgood.load.supply import Supply, supply_for
from lastgood.members import UndumpedRows
from lastgood.members.carry import Carrier
from lastgood.postgres import integrity, oid_columns
from lastgood.postgres.access import servers_own
from lastgood.postgres.pressure.capacity import capacity
from lastgood.postgres.pressure.monitor import Pressure
from lastgood.postgres.pressure.rules import Limits
from lastgood.postgres.server import Connection, quiet_event_triggers
from lastgood.text.redact import visible
from lastgood.text.units import counted

SHOWN = 20
# Seconds for which a load that failed waits for the SHA-256 of its file.
REASON_WAIT = 10.0
# The hash of the referenced keys fits in memory: 0.6 × the time with 4 MB, as measured.
_LOOK_UP = "SET work_mem = '64MB'"


class ProofFailed(Failed):
    """The restored database differs from the restore point; ``comparison`` has each difference."""

    code = "proof_failed"
    lines = True

    def __init__(self, message: str, *, comparison: FactsComparison, hint: str) -> None:
        super().__init__(message, hint=hint)
        self.comparison = comparison


def rules_for(live: Connection, facts: Facts, wishes: Rules) -> Rules:
    """The rules of a load, with facts of the live database: extensions get the version that the restore point records,
    else that of the live database; repairs may use the search path of its sessions."""
    versions: dict[str, str] = dict(live.execute("SELECT extname, extversion FROM pg_catalog.pg_extension").fetchall())
    versions |= {each.name: each.version for each in facts.extensions if each.version is not None}
    # Our search path is empty; that of other sessions comes from the settings of the role and of the database.
    row = live.execute("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'").fetchone()
    path = row[0] if row is not None else USUAL_PATH
    return replace(
        wishes,
        extensions=versions,
        languages={each.name: each for each in facts.languages},
        search_path=path,
        server_rights=frozenset(servers_own.rights(live)),
    )


@dataclass(frozen=True, slots=True)
class Dump:
    """A dump to restore. ``name`` is for messages. ``facts`` are the reference of the proof; ``again`` reads the rows
    for it, if they were only counted. ``division``: the deferred work, if any. ``held``: rows of extensions that no
    dump holds, to be copied from the live database."""

    name: str
    source: DumpSource
    summary: DumpSummary
    facts: Facts
    again: Callable[[], Facts]
    division: Division | None = None
    held: Sequence[UndumpedRows] = ()


def rebuild(
    dump: Dump,
    rules: Rules,
    context: Context,
    *,
    connect: Connect,
    watch: Callable[[], Connection],
    live: Callable[[], AbstractContextManager[Connection]] | None = None,
    supply: Supply | None = None,
    builder: Builder | None = None,
) -> Loaded:
    """Load the whole dump into an empty database, in several sessions opened by ``connect``. Tables are read back
    during the load, under the rules of the dump's facts. ``rules``: what may be left out or repaired. ``watch`` opens
    the session that monitors the server, ``live`` one in the live database. ``supply``: where the rows come from, if
    the script is not the one of the dump's source itself. ``builder``: who executes what may run code of the dump; its
    owners, grants and event triggers come with ``hand_over``.

    The pending verification of the dump (``source.pending_digest``, the SHA-256 of the file) runs at the same time.

    Raises Failed at the first error that no rule allows, or when production would be at risk; Corrupt when the file
    changed since it was checked, or its SHA-256 is wrong.
    """
    source, summary, division = dump.source, dump.summary, dump.division
    owed = source.pending_digest
    before = source.fingerprint() if owed is None else owed.fingerprint
    if supply is None:
        supply = supply_for(source, summary.script, database=summary.database, in_place=not summary.notes)
    limits = Limits(max_wal_lag=context.pace.max_wal_lag)
    with (
        closing(supply),
        connect("measure capacity") as connection,
        Pressure(watch, limits, context.emit, rate=context.pace.throttle) as pressure,
    ):
        room = capacity(connection, jobs=context.pace.jobs, others=0)
        context.emit(Note(room.reasons[0]))
        reading = _reading(connection, dump.facts)
        memory = costs_file(connection, context)
        known = costs.read(memory)
        script = summary.script if division is None else division.immediate(summary.script)
        with verified_meanwhile(source, dump.name, context.cancelled) as ended:
            within = replace(context, cancelled=ended)
            deferred = division is not None
            options = Options(dump.name, room, pressure, rules, reading, within, known, deferred, builder)
            loaded = load(builder.connect if builder is not None else connect, script, summary, supply, options)
        if memory is not None and division is None:
            # Foreign keys that are added NOT VALID would be learned as free.
            costs.teach(memory, loaded.spent, loaded.size)
    if builder is None and summary.has_acls and rules.within is None:
        with connect("withdraw rights") as connection:
            servers_rights.follow_live(connection, rules, loaded, context.emit)
    if rules.members.departures or dump.held:
        # By the operator, who owns the members of extensions. The commands are those of lastgood, not of the dump.
        with connect("restore extensions") as connection, (live or _no_database)() as inside:
            _put_back(connection, inside, dump.held, rules, loaded, context.emit)
            if builder is not None:
                builder.grant(connection)
    if source.fingerprint() != before:
        raise Corrupt(
            f'cannot use "{dump.name}": the file changed while it was read',
            hint="Find out what writes to it, then run the command again.",
        )
    return loaded


@contextmanager
def verified_meanwhile(source: DumpSource, name: str, cancelled: Callable[[], bool]) -> Iterator[Callable[[], bool]]:
    """Complete the verification of a dump during the block. The block must end early when the yielded function returns
    true. Raises Corrupt, instead of any error of the block, if the dump does not match its manifest."""
    owed = source.pending_digest
    if owed is None:
        yield cancelled
        return
    over = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="lastgood-sha256") as pool, ExitStack() as end:
        end.callback(over.set)  # an interrupted run does not wait for the rest of a large file
        digest = pool.submit(source.sha256, over.is_set)
        try:
            yield lambda: cancelled() or (digest.done() and digest.result() != owed.sha256)
        except LastgoodError:
            # A changed file is the reason for the other error, not its consequence; but writers wait at the fence.
            with suppress(TimeoutError):
                if not cancelled() and digest.result(timeout=REASON_WAIT) != owed.sha256:
                    raise _not_as_written(name) from None
            raise
        if digest.result() != owed.sha256:
            raise _not_as_written(name)


def _not_as_written(name: str) -> Corrupt:
    return Corrupt(
        f'cannot use "{name}": its SHA-256 differs from that in its manifest',
        hint="Locate the change with lastgood points verify, or choose another restore point: lastgood points",
    )


@contextmanager
def _no_database() -> Iterator[None]:
    yield None


def _put_back(
    connection: Connection,
    live: Connection | None,
    held: Sequence[UndumpedRows],
    rules: Rules,
    loaded: Loaded,
    emit: Emit,
) -> None:
    """Restore the parts of extensions that the dump does not hold and that could wait."""

    def report(named: str, how: str) -> None:
        loaded.repaired.append(Repaired(what=named, why=how, line=0))
        emit(Caution(f"{named}: {how}"))

    carrier = Carrier(rules.members, report, lenient=rules.lenient, confined=rules.confined)
    quiet_event_triggers(connection)
    if live is not None:
        carrier.rows(live, connection, held)
    carrier.late(connection)


def _reading(connection: Connection, expected: Facts) -> ReadBack:
    """The settings under which the text of rows matches the dump."""
    zone = expected.rules.time_zone
    if zone is None:
        with connection.transaction(force_rollback=True):
            zone = time_zone.recognise(connection, expected.zone_samples)
    zoned = (Relation(table.schema_name, table.name) for table in expected.tables if table.zoned and zone is None)
    rules = expected.rules.model_copy(update={"time_zone": zone})
    settings = (*pinned(rules), ("client_encoding", rules.client_encoding))
    return ReadBack(settings, frozenset(zoned))


def prove(
    connection: Connection,
    dump: Dump,
    same: Mapping[Relation, int],
    context: Context,
    *,
    connect: Connect,
    builder: Builder | None = None,
) -> FactsComparison:
    """Read the database in one snapshot and compare it with the facts of the dump, which are the reference. Tables in
    ``same`` were read back during the load: they are read again only if something was written to them since. At the
    same time, sessions opened by ``connect`` verify every foreign key that the server did not, and those that were
    added NOT VALID. Deferred objects do not count as missing, nor do those that come with the hand-over of a
    ``builder``.

    Raises ProofFailed, with every difference.
    """
    expected, division, unsure = dump.facts, dump.division, dump.summary.rows_for_extensions
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    unproved = division.not_valid_keys if division is not None else frozenset()
    with ThreadPoolExecutor(1, thread_name_prefix="lastgood-integrity") as pool:
        broken = pool.submit(_broken, connect, context.pace, expected, dump.summary.keys_before_rows, unproved)
        with connection.transaction():
            expected = _without(expected, absent(connection, unsure))
            known = unchanged(connection, expected, same)
            if any(
                table.why_no_digest == ONLY_COUNTED and Relation(table.schema_name, table.name) not in known
                for table in expected.tables
            ):
                expected = _without(dump.again(), absent(connection, unsure))
            found = facts_of_database(
                connection, like=expected, beyond_like=True, known=known, context=context, stage="prove"
            )
            if builder is not None:
                expected = builder.present(expected)
            comparison = accepted(connection, compared(expected, found, known.keys(), division))
            causes = list(_oids(connection, comparison))
        fault.point("prove.before_verdict")
        lines = (
            [f"{d.what}: expected {d.expected}, found {d.found}" for d in comparison.differences]
            + causes
            + broken.result()
        )
    if lines:
        name = visible(connection.info.dbname)
        raise ProofFailed(
            f'cannot use "{name}": {counted(len(lines), "difference")} from the restore point'
            + "".join(f"\n  {visible(line)}" for line in lines[:SHOWN])
            + (f"\n  … and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""),
            comparison=comparison,
            hint="Run it again with --keep-shadow to inspect the restored database, or choose another restore point: "
            "lastgood points",
        )
    return comparison


def _oids(connection: Connection, comparison: FactsComparison) -> Iterator[str]:
    """The columns that may explain differences: their OIDs mean other objects on another server."""
    differing = {each.what for each in comparison.differences if each.kind == "content"}
    schemas = {each.schema_name for each in comparison.tables} if differing else ()
    for each in oid_columns.find(connection, schemas):
        if (table := f"{each.schema_name}.{each.table}") in differing:
            yield (
                f"{table}: column {quoted(each.name)} has type {each.type}; an OID whose object was dropped before the "
                "restore point may be that of another object on this server"
            )


def _without(expected: Facts, absent: Collection[Relation]) -> Facts:
    """The facts without the tables and sequences that a load had to leave out."""
    return expected.model_copy(
        update={
            "tables": tuple(each for each in expected.tables if Relation(each.schema_name, each.name) not in absent),
            "sequences": tuple(
                each for each in expected.sequences if Relation(each.schema_name, each.name) not in absent
            ),
        }
    )


def unchanged(connection: Connection, expected: Facts, same: Mapping[Relation, int]) -> Mapping[Relation, TableFacts]:
    """The tables that were read back and not changed since, according to the server's counters."""
    written = {
        Relation(schema, name): (inserted, changed)
        for schema, name, inserted, changed in connection.execute(
            "SELECT schemaname, relname, n_tup_ins, n_tup_upd + n_tup_del FROM pg_catalog.pg_stat_user_tables"
        )
    }
    tables = {Relation(table.schema_name, table.name): table for table in expected.tables}
    return {
        relation: tables[relation]
        for relation, rows in same.items()
        if relation in tables and tables[relation].rows == rows and written.get(relation) == (rows, 0)
    }


def compared(expected: Facts, found: Facts, same: Collection[Relation], division: Division | None) -> FactsComparison:
    """Compare a restored database with its restore point; deferred objects do not count as missing."""
    if division is None or not division.indexes:
        return compare(expected, found, same=same)
    later = {str(index) for index in division.indexes}
    counts = dict(expected.object_counts)
    if "index" in counts:
        counts["index"] -= len(later)
    objects = tuple(each for each in expected.objects if not (each.kind == "index" and each.identity in later))
    less = expected.model_copy(update={"object_counts": counts, "objects": objects})
    comparison = compare(less, found, same=same)
    shown = ", ".join(sorted(later)[:SHOWN]) + (f" and {len(later) - SHOWN} more" if len(later) > SHOWN else "")
    remark = f"Indexes that are built after the reopening were not compared: {shown}."
    return comparison.model_copy(update={"not_compared": (*comparison.not_compared, remark)})


def _broken(
    connect: Connect, pace: Pace, expected: Facts, keys: bool, unproved: Collection[tuple[Relation, str]]
) -> list[str]:
    """Broken objects that a comparison of definitions does not show. An unpopulated view, or an index that lacks a
    partition's, may be part of the restore point and is not reported."""
    with connect("measure capacity") as connection:
        wanted = [
            key
            for key in integrity.foreign_key_constraints(connection)
            if (keys and key.validated) or (Relation(key.schema_name, key.table), key.name) in unproved
        ]
        unsound = list(_unsound(connection))
        jobs = capacity(connection, jobs=pace.jobs, others=0).jobs if wanted else 1
    rows = {(table.schema_name, table.name): table.rows for table in expected.tables}
    wanted.sort(key=lambda key: rows.get((key.schema_name, key.table), sys.maxsize), reverse=True)
    return [*_orphans(connect, wanted, min(jobs, len(wanted))), *unsound]


def _orphans(connect: Connect, keys: Sequence[integrity.ForeignKeyConstraint], jobs: int) -> Iterator[str]:
    """Verify keys in ``jobs`` sessions, the largest tables first; yield a line for each broken key."""
    left = deque(keys)
    found: list[integrity.KeyOrphans] = []

    def work() -> None:
        with connect("verify keys") as connection:
            connection.execute(_LOOK_UP)
            with suppress(IndexError):  # no key is left
                while True:
                    found.append(integrity.look_up(connection, left.popleft()))

    with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="lastgood-keys") as pool:
        for done in [pool.submit(work) for _ in range(jobs)]:
            done.result()
    for key in sorted(found, key=lambda key: (key.schema_name, key.table, key.name)):
        if key.orphans:
            yield (
                f"foreign key {key.name} of {key.schema_name}.{key.table}: {key.orphans} rows have no match in "
                f"{key.references}, for example {', '.join(key.samples)}"
            )


def _unsound(connection: Connection) -> Iterator[str]:
    for finding in integrity.findings(connection):
        if finding.kind == "invalid index" and "not all partitions" not in finding.detail:
            yield f"index {finding.what} is not valid ({finding.detail})"
        elif finding.kind == "unfinished view":
            yield f"view {finding.what} was left unfinished ({finding.detail})"
