"""The rollback of a failed deployment: terminate the migration's sessions, compare the database with the restore point,
and replace it by an ordinary rollback only if it differs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import psycopg

from lastgood import rollback
from lastgood.command.deploy.hold import Hold
from lastgood.command.facts import account
from lastgood.context import Context
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, Refused, first_line
from lastgood.events import Caution, Emit, StageDone, StageFailed, StageStarted
from lastgood.facts import Facts, SequenceFacts
from lastgood.facts.compare import compare
from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import Choice, Request
from lastgood.points import RestorePoint
from lastgood.postgres import remaining_sessions
from lastgood.postgres.access.rights import rights
from lastgood.postgres.errors import failed
from lastgood.postgres.identity import identity
from lastgood.postgres.lock import Claim
from lastgood.postgres.remaining_sessions import ProgramTrace, RemainingSession
from lastgood.postgres.server import Target
from lastgood.postgres.sessions import locked_tables
from lastgood.run.report import Report
from lastgood.text.units import counted

TRIES = 3
PAUSE_SECONDS = 2.0
# Differences that an application can cause, too; all others come from the migration.
_ROWS = frozenset({"rows", "content", "newest", "sequence", "large objects"})


@dataclass(frozen=True, slots=True)
class Remains:
    """The changes that a migration left in the database. ``nothing``: it equals the restore point except for ``moved``,
    sequences that advanced (ROLLBACK does not revert them, and gaps are harmless). ``only_rows``: the schema is equal.
    ``summary``: what was compared, or what differs, in words."""

    nothing: bool
    only_rows: bool
    summary: str
    moved: tuple[str, ...] = ()


def end_sessions(hold: Hold, trace: ProgramTrace, seen: frozenset[RemainingSession], emit: Emit) -> tuple[str, ...]:
    """Terminate the migration's remaining sessions until none is left. Raises Failed."""
    emit(StageStarted("sessions", "terminate remaining sessions of the migration"))
    began = time.monotonic()
    try:
        connection = hold.connection()
        ended = remaining_sessions.end(connection, hold.oid, replace(trace, own_pids=trace.own_pids | {hold.pid}), seen)
    except BaseException as error:
        emit(StageFailed("sessions", time.monotonic() - began, str(error)))
        raise
    result = f"{counted(len(ended), 'session')} terminated" if ended else "none found"
    emit(StageDone("sessions", time.monotonic() - began, result))
    return tuple(map(str, ended))


def remains(target: Target, facts: Facts, before: frozenset[str], emit: Emit) -> Remains:
    """Compare the live database with the restore point's facts and with the privileges ``before``. Schema and row
    counts come first, which is quick; content only if these are equal. A failed comparison counts as a difference."""
    emit(StageStarted("compare", "compare the database with the restore point"))
    began = time.monotonic()
    try:
        found, ways = _inspect(target)
        changed = sorted(found ^ before)
        left = _remains(facts, account.of_database(target, like=facts, digests=False), ways)
        if left.only_rows and changed:
            left = Remains(False, False, f"{changed[0].partition(': ')[0]}: changed")
        if left.nothing:
            left = _remains(facts, account.of_database(target, like=facts, context=Context(emit)), ways)
    except LastgoodError as error:
        emit(StageFailed("compare", time.monotonic() - began, str(error)))
        return Remains(False, False, f"comparison failed: {error}")
    emit(StageDone("compare", time.monotonic() - began, left.summary))
    return left


@dataclass(frozen=True, slots=True)
class _Way:
    """The direction and the bounds of a sequence."""

    increment: int
    first: int
    last: int
    cycle: bool

    def leads(self, then: SequenceFacts, now: SequenceFacts) -> bool:
        """Whether the sequence advanced by ordinary use and is not exhausted. One that was set back would repeat
        values."""
        drawn, next_one = self._next(then), self._next(now)
        return self.cycle or (self.first <= next_one <= self.last and (next_one - drawn) * self.increment >= 0)

    def _next(self, one: SequenceFacts) -> int:
        return one.last_value + self.increment if one.is_called else one.last_value


_WAYS = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax, s.seqcycle
FROM pg_catalog.pg_sequence s JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
_Ways = Mapping[tuple[str, str], _Way]


def _inspect(target: Target) -> tuple[frozenset[str], _Ways]:
    """Read the privileges and the sequences. Raises Failed, also when another session's lock would block the
    rollback."""
    try:
        with target.connect(application_name="lastgood compares") as connection:
            shut = locked_tables(connection)
            found = rights(connection) if not shut else frozenset()
            ways = {(schema, name): _Way(*rest) for schema, name, *rest in connection.execute(_WAYS)}
    except psycopg.Error as error:
        raise failed(error, "read the database", context="connect", state=NOT_REACHED) from error
    if shut:
        first = shut[0]
        raise Failed(f'{first.holder} holds a lock on "{first.schema}"."{first.name}" that blocks readers')
    return found, ways


def _moved(facts: Facts, now: Facts, ways: _Ways) -> tuple[list[str], list[str]]:
    """Return the sequences that advanced since the restore point, and sentences about those that were set otherwise."""
    further, elsewhere = [], []
    later = {(one.schema_name, one.name): one for one in now.sequences}
    for then in facts.sequences:
        key, name = (then.schema_name, then.name), f"{then.schema_name}.{then.name}"
        one = later.get(key)
        if one == then:
            continue
        if one is not None and key in ways and ways[key].leads(then, one):
            further.append(name)
        else:
            gone = "none" if one is None else str(one.last_value)
            elsewhere.append(f"sequence {name}: last value {then.last_value} in the restore point, {gone} now")
    return further, elsewhere


def _remains(facts: Facts, now: Facts, ways: _Ways) -> Remains:
    found = compare(facts, now)
    further, elsewhere = _moved(facts, now, ways)
    kinds = {each.kind for each in found.differences}
    differ = [
        *(
            f"{d.of}: {d.expected} in the restore point, {d.found} now"
            for d in found.differences
            if d.kind != "sequence"
        ),
        *elsewhere,
    ]
    if not differ:
        tables = counted(len(facts.tables), "table")
        objects = counted(len(facts.objects), "schema object")
        summary = f"equal: {tables} ({counted(facts.rows, 'row')}), {objects}, owners, privileges and comments"
        return Remains(True, True, summary, tuple(further))
    more = f", and {counted(len(differ) - 1, 'other difference')}" if len(differ) > 1 else ""
    # An application does not set its sequences back.
    return Remains(False, kinds <= _ROWS and not elsewhere, f"{differ[0]}{more}")


def go_back(
    hold: Hold, request: Request, point: RestorePoint, emit: Emit, planned: Callable[[tuple[TableLoss, ...]], None]
) -> Report:
    """Roll back to ``point`` and prove it. Wait for a lost server, and retry after a lost or refused
    connection. ``planned`` receives the loss before the rollback.

    Raises what ``rollback.plan`` and ``rollback.run`` raise, and Failed when the server does not come back.
    """
    for tries in range(1, TRIES + 1):
        server_start = identity(hold.connection()).started
        again = replace(request, choice=Choice(point=str(point.path)), fence="now", run=None)
        try:
            prepared = rollback.plan(again, emit)
            planned(prepared.plan.loss)
            return rollback.run(prepared, emit, Claim(hold.connection(), hold.run))
        except (Failed, Refused, psycopg.OperationalError) as error:
            restarted = identity(hold.connection()).started != server_start
            if tries == TRIES or not (restarted or _connection_failed(error)):
                raise
            why = "the server was restarted" if restarted else "a connection was lost or refused"
            emit(Caution(f"{why}: retrying the rollback ({first_line(error)})"))
            time.sleep(PAUSE_SECONDS)  # the server does not announce free connections
    raise AssertionError("unreachable: the last try returns or raises")


def _connection_failed(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError) or isinstance(error.__cause__, psycopg.OperationalError)


def changed(loss: tuple[TableLoss, ...]) -> tuple[TableLoss, ...]:
    """Return the tables that the rollback changes."""
    return tuple(each for each in loss if each.differs)
