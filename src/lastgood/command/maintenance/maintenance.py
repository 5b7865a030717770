"""Maintenance by itself: the application stopped and started by its hooks, and who writes all the same.

The hooks outlive the tool, and a record says that they ran. The fence does not: it is a session of this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Literal

import psycopg

from lastgood.application import Application, hooks, record
from lastgood.application.record import BY_HAND, Record
from lastgood.application.results import HookResult
from lastgood.application.service import START_IT, HookFailed, Service
from lastgood.errors import Failed, LastgoodError, NotStarted, Refused, UsageError, first_line
from lastgood.events import Caution, Emit, Note, Progress, StageDone, StageStarted
from lastgood.journal import Journal, recording
from lastgood.journal.run_names import new_run
from lastgood.models import Document
from lastgood.postgres import activity, database, lock, table_locks
from lastgood.postgres.activity import ConnectedSession
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.table_locks import FenceStatus

FENCE = "lastgood fence maintenance"
STAYS = "The application stays stopped: lastgood maintenance off starts it."
POLL_SECONDS = 0.5
# The server's counters are up to a second old.
COUNTING_SECONDS = 1.2


class Maintenance(Document):
    """What was done, and how it stands now. ``application`` is what this machine remembers, null when nothing is
    stopped; ``written`` counts rows that were written within ``counted_seconds``, by the server's counters; it is null,
    as ``sessions`` is empty, where the server does not answer: then ``unreachable`` says why."""

    live: str
    action: Literal["on", "off", "status"]
    application: Record | None
    hooks: tuple[HookResult, ...] = ()
    fence: FenceStatus | None = None
    sessions: tuple[ConnectedSession, ...] = ()
    written: int | None = None
    counted_seconds: float | None = None
    unreachable: str = ""


def on(
    target: Target,
    state: Path,
    application: Application,
    emit: Emit,
    cancelled: Callable[[], bool],
    *,
    fence_follows: bool = False,
) -> Maintenance:
    """Maintenance mode on, the application stopped, and who is connected still. A hook that fails is taken back.

    Raises UsageError when there is nothing to run and no ``fence_follows``, Refused, Failed, NotStarted, Interrupted.
    """
    if not application.stops and not fence_follows:
        raise UsageError(
            'cannot turn maintenance on: lastgood.toml has no hook "maintenance_on" or "stop"',
            hint="Add one of them to [hooks], or keep writers out of the database alone: lastgood maintenance on "
            "--fence",
            state="Nothing was changed.",
        )
    for problem in application.problems():
        if problem.stops:
            raise Refused(
                f"cannot turn maintenance on: {problem.text}", hint=problem.hint, state="Nothing was changed."
            )
    with ExitStack() as stack:
        stack.enter_context(_alone(target, "on"))
        kept = _begun(target, state, "on", emit) if application.stops else None
        emit = stack.enter_context(recording.recording(kept, emit))
        service = _service(target, state, application, emit, kept)
        if application.stops:
            _stop(service, emit, cancelled)
            recording.ended(kept, "done")
    return _seen(target, state, "on", service)


def _stop(service: Service, emit: Emit, cancelled: Callable[[], bool]) -> None:
    emit(StageStarted("stop", "stop the application"))
    try:
        service.stop(BY_HAND, "maintenance", cancelled)
    except BaseException as error:
        try:
            service.start("walking back", begun_only=True)
        except HookFailed as again:
            raise _not_started(again, "") from error
        service.forget()
        if isinstance(error, HookFailed):
            raise Failed(
                f"cannot stop the application: {error}",
                hint="Mend the hook in lastgood.toml, and run lastgood maintenance on again.",
                state="What had been done was taken back.",
            ) from error
        if isinstance(error, LastgoodError):
            error.state = "What had been done was taken back."
        raise
    emit(StageDone("stop", sum(each.seconds for each in service.results)))


def off(target: Target, state: Path, application: Application, emit: Emit) -> Maintenance:
    """A fence of ours ended, the application started, maintenance mode off, whoever had stopped it.

    Raises Refused while a run is at work, NotStarted.
    """
    with ExitStack() as stack:
        stack.enter_context(_alone(target, "off"))
        kept = _begun(target, state, "off", emit)
        emit = stack.enter_context(recording.recording(kept, emit))
        try:
            _end_fence(target, emit)
        except (psycopg.Error, LastgoodError) as error:
            # The application may have reasons of its own to be started while the server is away.
            emit(Caution(f"whether a fence stands can't be known: {first_line(error)}"))
        service = _service(target, state, application, emit, kept)
        if application.starts:
            emit(StageStarted("start", "start the application"))
            try:
                service.start("maintenance")
            except HookFailed as error:
                raise _not_started(error, "The application is stopped.") from error
            emit(StageDone("start", sum(each.seconds for each in service.results)))
        service.forget()
        recording.ended(kept, "done")
    return _seen(target, state, "off", service)


def _not_started(error: HookFailed, state: str) -> NotStarted:
    return NotStarted(
        f"cannot start the application: {error}",
        hint=START_IT,
        state=state or "The application may be stopped.",
    )


def look(target: Target, state: Path) -> Maintenance:
    """How it stands, and nothing done."""
    return _seen(target, state, "status", None)


def keep_out(target: Target, state: Path, emit: Emit, cancelled: Callable[[], bool]) -> str:
    """Keeps writers out of the live database until ``cancelled``, or until the session that does it is ended, and
    returns how it ended, in words; the folder ``state`` has the record. Raises Failed (they could not be kept out),
    Refused, psycopg.Error."""
    kept = _begun(target, state, "fence", emit)
    with recording.recording(kept, emit) as emit:
        how = _fenced(target, emit, cancelled)
        recording.ended(kept, "done", detail=how)
    return how


def _fenced(target: Target, emit: Emit, cancelled: Callable[[], bool]) -> str:
    live, over, using = target.dbname, Event(), Lock()
    with database.connect_maintenance(target, live) as maintenance:
        found = database.describe(maintenance, live)
        connection = target.at(live).connect(autocommit=False, application_name=FENCE)
        try:
            emit(StageStarted("fence", "keep writers out until Ctrl+C, or lastgood maintenance off"))
            began = time.monotonic()
            tables = table_locks.lock_all(connection, maintenance, found, emit, cancelled)
            guarding = partial(target.at(maintenance.info.dbname).connect, application_name="lastgood guards the fence")
            table_locks.Guard(guarding, found.oid, connection, over, emit, cancelled, using).start()
            emit(Note(f"{tables} tables are locked against writes; readers go on"))
            how = _while_it_stands(connection, tables, cancelled, emit, using)
            emit(StageDone("fence", time.monotonic() - began, how))
            return how
        finally:
            over.set()
            with using, suppress(psycopg.Error):
                connection.close()


def _while_it_stands(
    connection: Connection, tables: int, cancelled: Callable[[], bool], emit: Emit, using: Lock
) -> str:
    while not cancelled():
        try:
            with using:
                row = connection.execute(
                    "SELECT count(*) FROM pg_catalog.pg_stat_activity"
                    " WHERE pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(pid))"
                ).fetchone()
        except psycopg.Error:
            return "ended from elsewhere: writers go on"
        waiting = int(row[0]) if row is not None else 0
        emit(Progress("fence", tables, None, "tables locked", detail=f"{waiting} writers wait"))
        time.sleep(POLL_SECONDS)  # nothing announces that the session was ended
    return "ended: writers go on"


@contextmanager
def _alone(target: Target, what: str) -> Iterator[None]:
    """The lock of the live database for the length of a block, so that no run stops or starts the application at the
    same time. A server that does not answer is one more reason to turn maintenance on. Raises Refused."""
    with ExitStack() as stack:
        working: str | None = None
        with suppress(psycopg.Error, LastgoodError):
            maintenance = stack.enter_context(database.connect_maintenance(target, target.dbname))
            maintenance.execute("SELECT set_config('application_name', %s, false)", [f"lastgood maintenance {what}"])
            working = lock.holder(maintenance, target.dbname) or "another session"
            lock.lock_live(maintenance, target.dbname, lock.nothing)
            working = None
        if working is not None:
            raise Refused(
                f"cannot turn maintenance {what}: a run works on the database ({working})",
                hint="It stops and starts the application itself. Wait for it, or run lastgood status.",
                state="Nothing was changed.",
            )
        yield


def _end_fence(target: Target, emit: Emit) -> None:
    with database.connect_maintenance(target, target.dbname) as maintenance:
        oid = database.describe(maintenance, target.dbname).oid
        found = table_locks.holder(maintenance, oid)
        if found is not None and found.application == FENCE:
            emit(StageStarted("fence", "let writers go on"))
            maintenance.execute("SELECT pg_terminate_backend(%s, 5000)", [found.pid])
            emit(StageDone("fence", 0.0, f"session {found.pid} ended"))


def _begun(target: Target, state: Path, action: str, emit: Emit) -> Journal | None:
    """The record, where one can be kept: users wait for what is done here, and the server may be away."""
    run = new_run(datetime.now(UTC))
    return recording.attempt(state, run, "maintenance", emit, live=target.dbname, action=action)


def _service(target: Target, state: Path, application: Application, emit: Emit, kept: Journal | None) -> Service:
    def told(result: HookResult) -> None:
        if kept is not None:
            kept.note("hook", **result.model_dump(mode="json"))

    return Service(application, target, state, hooks.environment(live=target.dbname), emit, told)


def _seen(target: Target, state: Path, action: Literal["on", "off", "status"], service: Service | None) -> Maintenance:
    seen = Maintenance(
        live=target.dbname,
        action=action,
        application=record.read(state, target),
        hooks=tuple(service.results) if service is not None else (),
    )
    try:
        with database.connect_maintenance(target, target.dbname) as maintenance:
            oid = database.describe(maintenance, target.dbname).oid
            before, began = activity.writes(maintenance, oid), time.monotonic()
            time.sleep(COUNTING_SECONDS)  # what is written meanwhile is what we want to know
            written = max(0, activity.writes(maintenance, oid) - before)
            return seen.model_copy(
                update={
                    "fence": table_locks.holder(maintenance, oid),
                    "sessions": tuple(activity.connected(maintenance, oid)),
                    "written": written,
                    "counted_seconds": round(time.monotonic() - began, 1),
                }
            )
    except (psycopg.Error, LastgoodError) as error:
        return seen.model_copy(update={"unreachable": first_line(error)})
