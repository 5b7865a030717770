"""Maintenance without a rollback: stop and start the application with its hooks, and report remaining writers.

The effect of the hooks outlives lastgood, so it is recorded. The fence does not: it is a session of this process.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Event, Lock
from typing import Literal

import psycopg

from lastgood.application import Application, hooks, record
from lastgood.application.record import BY_HAND, StopRecord
from lastgood.application.results import HookResult
from lastgood.application.service import START_HINT, HookFailed, Service
from lastgood.context import Context
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, NotStarted, Refused, UsageError, first_line
from lastgood.events import Caution, Emit, Note, Progress, StageDone, StageStarted, reported
from lastgood.journal import Journal, recording
from lastgood.journal.run_names import new_run
from lastgood.models import Document
from lastgood.postgres import database, lock, pooled, table_locks
from lastgood.postgres.pressure import activity
from lastgood.postgres.pressure.activity import ConnectedSession
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.table_locks import FenceStatus
from lastgood.text.units import counted

FENCE = "lastgood fence maintenance"
REMAINS_STOPPED = "The application remains stopped. To start it: lastgood maintenance off"
POLL_SECONDS = 0.5
# The server's counters are up to a second old.
COUNTING_SECONDS = 1.2


class Maintenance(Document):
    """The actions, and the resulting state. ``application`` is this machine's record, null when nothing is stopped.
    ``written`` counts the rows written within ``counted_seconds``, from the server's counters. If the server cannot be
    reached, ``written`` is null, ``sessions`` is empty and ``unreachable`` has the error."""

    live: str
    action: Literal["on", "off", "status"]
    application: StopRecord | None
    hooks: tuple[HookResult, ...] = ()
    fence: FenceStatus | None = None
    sessions: tuple[ConnectedSession, ...] = ()
    written: int | None = None
    counted_seconds: float | None = None
    unreachable: str = ""


def on(
    target: Target,
    application: Application,
    context: Context,
    *,
    fence_follows: bool = False,
) -> Maintenance:
    """Turn maintenance mode on and stop the application. If a hook fails, the earlier hooks are reversed.

    Raises UsageError when there is no hook and no ``fence_follows``, Refused, Failed, NotStarted, Interrupted.
    """
    if not application.stops and not fence_follows:
        raise UsageError(
            'cannot turn maintenance on: lastgood.toml has no hook "maintenance_on" or "stop"',
            hint="Add one of them to [hooks], or only block writes: lastgood maintenance on --fence",
            state=NOT_REACHED,
        )
    for problem in application.problems():
        if problem.stops:
            raise Refused(f"cannot turn maintenance on: {problem.text}", hint=problem.hint, state=NOT_REACHED)
    with ExitStack() as stack:
        stack.enter_context(_exclusive(target, "on"))
        journal = _begin_journal(target, "on", context) if application.stops else None
        emit = stack.enter_context(recording.recording(journal, context.emit))
        context = replace(context, emit=emit)
        service = _service(target, application, context, journal)
        if application.stops:
            _stop(service, context)
            recording.write_end(journal, "done")
    return _result(target, context.records, "on", service)


def _stop(service: Service, context: Context) -> None:
    context.emit(StageStarted("stop", "stop the application"))
    try:
        service.stop(BY_HAND, "maintenance", context.cancelled)
    except BaseException as error:
        try:
            service.start("reverting", begun_only=True)
        except HookFailed as again:
            raise _not_started(again, "") from error
        service.forget()
        if isinstance(error, HookFailed):
            raise Failed(
                f"cannot stop the application: {error}",
                hint="Fix the hook in lastgood.toml, then run: lastgood maintenance on",
                state="What had been done was reversed.",
            ) from error
        if isinstance(error, LastgoodError):
            error.state = "What had been done was reversed."
        raise
    context.emit(StageDone("stop", sum(each.seconds for each in service.results)))


def off(target: Target, application: Application, context: Context) -> Maintenance:
    """End our fence, start the application and turn maintenance mode off, whichever run or command had stopped it.

    Raises Refused while a run is in progress, NotStarted.
    """
    with ExitStack() as stack:
        stack.enter_context(_exclusive(target, "off"))
        journal = _begin_journal(target, "off", context)
        emit = stack.enter_context(recording.recording(journal, context.emit))
        try:
            _end_fence(target, emit)
        except (psycopg.Error, LastgoodError) as error:
            # There may be reasons to start the application while the server is unreachable.
            emit(Caution(f"cannot check for a fence: {first_line(error)}"))
        service = _service(target, application, replace(context, emit=emit), journal)
        if application.starts:
            emit(StageStarted("start", "start the application"))
            try:
                service.start("maintenance")
            except HookFailed as error:
                raise _not_started(error, "The application is stopped.") from error
            emit(StageDone("start", sum(each.seconds for each in service.results)))
        service.forget()
        recording.write_end(journal, "done")
    return _result(target, context.records, "off", service)


def _not_started(error: HookFailed, state: str) -> NotStarted:
    return NotStarted(
        f"cannot start the application: {error}",
        hint=START_HINT,
        state=state or "The application may be stopped.",
    )


def status(target: Target, state: Path) -> Maintenance:
    """Return the current state without changing anything."""
    return _result(target, state, "status", None)


def block_writes(target: Target, context: Context) -> str:
    """Block writes in the live database until cancelled, or until the fence session is terminated. Return the reason of
    its end, in words. Raises Failed when writes could not be blocked, Refused, psycopg.Error."""
    journal = _begin_journal(target, "fence", context)
    with recording.recording(journal, context.emit) as emit:
        ending = _hold_fence(target, replace(context, emit=emit))
        recording.write_end(journal, "done", detail=ending)
    return ending


def _hold_fence(target: Target, context: Context) -> str:
    live, over, using = target.dbname, Event(), Lock()
    with database.connect_maintenance(target, live) as maintenance:
        found = database.describe(maintenance, live)
        connection = target.at(live).connect(autocommit=False, application_name=FENCE)
        title = "block writes until Ctrl+C or lastgood maintenance off"
        try:
            with reported(context.emit, "fence", title) as stage:
                tables = table_locks.lock_all(connection, maintenance, found, context)
                guarding = partial(
                    target.at(maintenance.info.dbname).connect, application_name="lastgood guards the fence"
                )
                table_locks.Guard(guarding, found.oid, connection, context, over=over, using=using).start()
                context.emit(Note(f"writes to {counted(tables, 'table')} are blocked; readers are not"))
                stage.detail = _wait_for_end(connection, tables, context, using)
            return stage.detail
        finally:
            over.set()
            with using, suppress(psycopg.Error):
                connection.close()


def _wait_for_end(connection: Connection, tables: int, context: Context, using: Lock) -> str:
    while not context.cancelled():
        try:
            with using:
                row = connection.execute(
                    "SELECT count(*) FROM pg_catalog.pg_stat_activity"
                    " WHERE pg_catalog.pg_backend_pid() = ANY (pg_catalog.pg_blocking_pids(pid))"
                ).fetchone()
        except psycopg.Error:
            return "terminated by another session: writes resume"
        waiting = int(row[0]) if row is not None else 0
        context.emit(Progress("fence", tables, None, "tables locked", detail=f"{waiting} writers wait"))
        time.sleep(POLL_SECONDS)  # the server does not announce that the session was terminated
    return "ended: writes resume"


@contextmanager
def _exclusive(target: Target, what: str) -> Iterator[None]:
    """Hold the lock of the live database for the length of a block, so that no run stops or starts the application at
    the same time. An unreachable server is no obstacle: maintenance is useful then, too. Raises Refused."""
    with ExitStack() as stack:
        working: str | None = None
        shared = False
        with suppress(psycopg.Error, LastgoodError):
            maintenance = stack.enter_context(database.connect_maintenance(target, target.dbname))
            maintenance.execute("SELECT set_config('application_name', %s, false)", [f"lastgood maintenance {what}"])
            shared = pooled.shares_sessions(maintenance)
            working = lock.holder(maintenance, target.dbname) or "another session"
            lock.lock_live(maintenance, target.dbname, lock.read_nothing)
            working = None
        if shared:
            raise Refused(f"cannot turn maintenance {what}: {pooled.TEXT}", hint=pooled.HINT, state=NOT_REACHED)
        if working is not None:
            raise Refused(
                f"cannot turn maintenance {what}: a run is in progress ({working})",
                hint="Wait for the run, which stops and starts the application itself; lastgood status shows it.",
                state=NOT_REACHED,
            )
        yield


def _end_fence(target: Target, emit: Emit) -> None:
    with database.connect_maintenance(target, target.dbname) as maintenance:
        oid = database.describe(maintenance, target.dbname).oid
        found = table_locks.holder(maintenance, oid)
        if found is not None and found.application == FENCE:
            emit(StageStarted("fence", "end the fence"))
            maintenance.execute("SELECT pg_terminate_backend(%s, 5000)", [found.pid])
            emit(StageDone("fence", 0.0, f"session {found.pid} terminated"))


def _begin_journal(target: Target, action: str, context: Context) -> Journal | None:
    """Begin the journal if possible. Without it the command still runs: users are waiting, and the server may be
    down."""
    run = new_run(datetime.now(UTC))
    return recording.begin_if_possible(context, run, "maintenance", live=target.dbname, action=action)


def _service(target: Target, application: Application, context: Context, kept: Journal | None) -> Service:
    def note(result: HookResult) -> None:
        if kept is not None:
            kept.note("hook", **result.model_dump(mode="json"))

    return Service(application, target, hooks.environment(live=target.dbname), context, note)


def _result(
    target: Target, state: Path, action: Literal["on", "off", "status"], service: Service | None
) -> Maintenance:
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
            time.sleep(COUNTING_SECONDS)  # the rows written meanwhile are the measurement
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
