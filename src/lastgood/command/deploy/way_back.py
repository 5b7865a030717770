"""The way back of a deployment that failed: what the migration left running is ended, what it left in the database is
looked at, and only where it left something, the restore point takes its place by an ordinary rollback.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import psycopg

from lastgood import rollback
from lastgood.command.deploy.hold import Hold
from lastgood.command.facts import account
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, Refused, first_line
from lastgood.events import Caution, Emit, Note, StageDone, StageFailed, StageStarted
from lastgood.facts import Facts, SequenceFacts
from lastgood.facts.compare import compare
from lastgood.plan.plan import Choice, Request, TableLoss
from lastgood.points import RestorePoint
from lastgood.postgres import outlived
from lastgood.postgres.errors import failed
from lastgood.postgres.identity import identity
from lastgood.postgres.lock import Claim
from lastgood.postgres.outlived import Outlived, Trace
from lastgood.postgres.rights import rights
from lastgood.postgres.server import Target
from lastgood.postgres.sessions import shut_tables
from lastgood.run.report import Report
from lastgood.text.units import counted

TRIES = 3
PAUSE_SECONDS = 2.0
TOLD_TABLES = 10
# What an application writes too; a migration's other traces are its own.
_ROWS = frozenset({"rows", "content", "newest", "sequence", "large objects"})


@dataclass(frozen=True, slots=True)
class Remains:
    """What a migration left in the database. ``nothing``: it equals the restore point, but for ``moved``, sequences
    that went on (a rollback of the server's own does not take that back, and a gap in numbers harms nothing);
    ``only_rows``: its schema does. ``said``: what was compared, or differs, in words."""

    nothing: bool
    only_rows: bool
    said: str
    moved: tuple[str, ...] = ()


def end_sessions(hold: Hold, trace: Trace, seen: frozenset[Outlived], emit: Emit) -> tuple[str, ...]:
    """Ends what the migration left on the server, until the server shows nothing of it any more. Raises Failed."""
    emit(StageStarted("sessions", "end what the migration left running on the server"))
    began = time.monotonic()
    try:
        connection = hold.connection()
        ended = outlived.end(connection, hold.oid, replace(trace, ours=trace.ours | {hold.pid}), seen)
    except BaseException as error:
        emit(StageFailed("sessions", time.monotonic() - began, str(error)))
        raise
    said = f"{counted(len(ended), 'session')} ended" if ended else "there is nothing"
    emit(StageDone("sessions", time.monotonic() - began, said))
    return tuple(map(str, ended))


def remains(target: Target, facts: Facts, before: frozenset[str], emit: Emit) -> Remains:
    """Compares the live database with the restore point's facts, and with its ``rights`` of before: the schema and the
    numbers of rows first, which is quick, and the content only where these agree. What can't be compared counts as
    something."""
    emit(StageStarted("compare", "compare the database with the restore point"))
    began = time.monotonic()
    try:
        found, ways = _looked(target)
        changed = sorted(found ^ before)
        left = _remains(facts, account.of_database(target, like=facts, digests=False), ways)
        if left.only_rows and changed:
            left = Remains(False, False, f"{changed[0].partition(': ')[0]}: changed")
        if left.nothing:
            left = _remains(facts, account.of_database(target, like=facts, emit=emit), ways)
    except LastgoodError as error:
        emit(StageFailed("compare", time.monotonic() - began, str(error)))
        return Remains(False, False, f"could not be compared: {error}")
    emit(StageDone("compare", time.monotonic() - began, left.said))
    return left


@dataclass(frozen=True, slots=True)
class _Way:
    """Where a sequence goes: the way of its numbers, and their ends."""

    increment: int
    first: int
    last: int
    cycle: bool

    def leads(self, then: SequenceFacts, now: SequenceFacts) -> bool:
        """Whether it came there by numbers that were drawn, and has some left. One that was set back gives numbers a
        second time."""
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


def _looked(target: Target) -> tuple[frozenset[str], _Ways]:
    """The rights, and the ways of the sequences. Raises Failed; also when somebody else's lock would keep the way back
    waiting."""
    try:
        with target.connect(application_name="lastgood compares") as connection:
            shut = shut_tables(connection)
            found = rights(connection) if not shut else frozenset()
            ways = {(schema, name): _Way(*rest) for schema, name, *rest in connection.execute(_WAYS)}
    except psycopg.Error as error:
        raise failed(error, "read the database", context="connect", state=NOT_REACHED) from error
    if shut:
        first = shut[0]
        raise Failed(f'{first.holder} has locked "{first.schema}"."{first.name}" against readers')
    return found, ways


def _moved(facts: Facts, now: Facts, ways: _Ways) -> tuple[list[str], list[str]]:
    """The sequences that are further on than the restore point's; and what is to be said of those that were set to
    somewhere else."""
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
            elsewhere.append(f"sequence {name}: its last number was {then.last_value} then, and is {gone} now")
    return further, elsewhere


def _remains(facts: Facts, now: Facts, ways: _Ways) -> Remains:
    found = compare(facts, now)
    further, elsewhere = _moved(facts, now, ways)
    kinds = {each.kind for each in found.differences}
    differ = [
        *(f"{d.of}: {d.expected} then, {d.found} now" for d in found.differences if d.kind != "sequence"),
        *elsewhere,
    ]
    if not differ:
        tables = counted(len(facts.tables), "table")
        objects = counted(len(facts.objects), "schema object")
        said = f"equal: {tables} ({counted(facts.rows, 'row')}), {objects}, owners, privileges and comments"
        return Remains(True, True, said, tuple(further))
    more = f", and {counted(len(differ) - 1, 'other difference')}" if len(differ) > 1 else ""
    # No application sets its sequences back.
    return Remains(False, kinds <= _ROWS and not elsewhere, f"{differ[0]}{more}")


def go_back(
    hold: Hold, request: Request, point: RestorePoint, emit: Emit, told: Callable[[tuple[TableLoss, ...]], None]
) -> Report:
    """Rolls back to ``point`` and proves it. A server that goes away meanwhile is waited for, and a connection that is
    lost or refused is no reason to give up at once. ``told`` is given what going back takes away, before it does.

    Raises what ``rollback.plan`` and ``rollback.run`` raise, and Failed when the server does not come back.
    """
    for tries in range(1, TRIES + 1):
        server_start = identity(hold.connection()).started
        wish = replace(request, choice=Choice(point=str(point.path)), fence="now", run=None)
        try:
            prepared = rollback.plan(wish, emit)
            told(prepared.plan.loss)
            for text in loss_said(prepared.plan.loss):
                emit(Note(text))
            return rollback.run(prepared, emit, Claim(hold.connection(), hold.run))
        except (Failed, Refused, psycopg.OperationalError) as error:
            restarted = identity(hold.connection()).started != server_start
            if tries == TRIES or not (restarted or _connection_failed(error)):
                raise
            why = "the server was restarted meanwhile" if restarted else "a connection was lost or refused"
            emit(Caution(f"{why}: going back once more ({first_line(error)})"))
            time.sleep(PAUSE_SECONDS)  # nothing announces that there is room for connections
    raise AssertionError("unreachable: the last try returns or raises")


def _connection_failed(error: BaseException) -> bool:
    return isinstance(error, psycopg.OperationalError) or isinstance(error.__cause__, psycopg.OperationalError)


def changed(loss: tuple[TableLoss, ...]) -> tuple[TableLoss, ...]:
    """The tables to which going back makes a difference."""
    return tuple(each for each in loss if each.differs)


def loss_said(loss: tuple[TableLoss, ...]) -> Iterator[str]:
    """What going back takes away and brings back, a sentence for each table."""
    tables = changed(loss)
    for each in tables[:TOLD_TABLES]:
        yield _said(each)
    if len(tables) > TOLD_TABLES:
        yield f"and {len(tables) - TOLD_TABLES} more tables change"


def _said(each: TableLoss) -> str:
    name = f"{each.schema_name}.{each.name}"
    if each.point_rows is None:
        return f"going back takes away table {name} ({counted(each.live_rows or 0, 'row')}); the kept database has it"
    if each.live_rows is None:
        return f"going back brings back table {name} ({counted(each.point_rows, 'row')})"
    if each.written_since:
        return (
            f"going back takes away {counted(each.written_since, 'row')} of {name}, written since (by {each.by}); the "
            "kept database has them"
            if each.by
            else f"going back takes away {counted(each.written_since, 'row')} of {name}; the kept database has them"
        )
    more = each.live_rows - each.point_rows
    if more > 0:
        return f"going back takes away {counted(more, 'row')} of {name}; the kept database has them"
    if not more:
        return f"going back changes rows of {name} back; the kept database has them as they were"
    return f"going back brings back {counted(-more, 'row')} of {name}"
