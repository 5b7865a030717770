"""The way back of a deployment that failed: what the migration left running is ended, what it left in the database is
looked at, and only where it left something, the restore point takes its place by an ordinary rollback.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import psycopg

from lastgood import rollback
from lastgood.amounts import counted
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, Refused, first_line
from lastgood.events import Caution, Emit, Note, StageDone, StageFailed, StageStarted
from lastgood.facts import Facts
from lastgood.facts.compare import Comparison, compare
from lastgood.plan import Choice, Request, TableLoss
from lastgood.points import RestorePoint
from lastgood.postgres import outlived
from lastgood.postgres.errors import failed
from lastgood.postgres.identity import identity
from lastgood.postgres.lock import Claim
from lastgood.postgres.outlived import Outlived, Trace
from lastgood.postgres.rights import rights
from lastgood.postgres.server import Target
from lastgood.postgres.sessions import shut_tables
from lastgood.procedure import account
from lastgood.procedure.deploy.hold import Hold
from lastgood.report import Report

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
        changed = sorted(_rights(target) ^ before)
        found = compare(facts, account.of_database(target, like=facts, digests=False))
        left = _remains(facts, found, [])
        if left.only_rows and changed:
            left = Remains(False, False, f"{changed[0].partition(': ')[0]}: changed")
        if left.nothing:
            now = account.of_database(target, like=facts, emit=emit)
            left = _remains(facts, compare(facts, now), _moved(facts, now))
    except LastgoodError as error:
        emit(StageFailed("compare", time.monotonic() - began, str(error)))
        return Remains(False, False, f"could not be compared: {error}")
    emit(StageDone("compare", time.monotonic() - began, left.said))
    return left


def _rights(target: Target) -> frozenset[str]:
    """Raises Failed; also when somebody else's lock would keep the way back waiting."""
    try:
        with target.connect(application_name="lastgood compares") as connection:
            shut = shut_tables(connection)
            found = rights(connection) if not shut else frozenset()
    except psycopg.Error as error:
        raise failed(error, "read the database", context="connect", state=NOT_REACHED) from error
    if shut:
        first = shut[0]
        raise Failed(f'process {first.pid} has locked "{first.schema}"."{first.name}" against readers')
    return found


def _moved(facts: Facts, now: Facts) -> list[str]:
    """The sequences that are further on than the restore point's."""
    then = {(one.schema_name, one.name): one for one in facts.sequences}
    return [
        f"{one.schema_name}.{one.name}"
        for one in now.sequences
        if (other := then.get((one.schema_name, one.name))) is not None
        and (one.last_value, one.is_called) != (other.last_value, other.is_called)
    ]


def _remains(facts: Facts, found: Comparison, moved: list[str]) -> Remains:
    kinds = {each.kind for each in found.differences}
    differ = [each for each in found.differences if each.kind != "sequence"]
    if not differ:
        tables = counted(len(facts.tables), "table")
        objects = counted(len(facts.objects), "schema object")
        said = f"equal: {tables} ({counted(facts.rows, 'row')}), {objects}, owners, privileges and comments"
        return Remains(True, True, said, tuple(moved))
    first = differ[0]
    more = f", and {counted(len(differ) - 1, 'other difference')}" if len(differ) > 1 else ""
    said = f"{first.kind} of {first.what}: {first.expected} then, {first.found} now{more}"
    return Remains(False, kinds <= _ROWS, said)


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
    """The tables to which going back makes a difference that can be counted."""
    return tuple(each for each in loss if each.live_rows != each.point_rows or each.written_since)


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
    return f"going back brings back {counted(-more, 'row')} of {name}"
