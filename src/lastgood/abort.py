"""End an unfinished run: undo its steps before its swap, or the swap itself if the application does not work with the
restored database."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

from lastgood import fault, undo
from lastgood.application import hooks, record
from lastgood.application.results import ApplicationReport, HookResult
from lastgood.application.service import START_HINT, Service
from lastgood.errors import Blocked, ChecksFailed, ChecksFailedAfterSwap, Stopped, continued, switched_back
from lastgood.events import Caution, Emit, StageDone, StageStarted
from lastgood.in_place.build import staged
from lastgood.in_place.kept import left_by_runs
from lastgood.journal import Journal, caller, recording, run_names
from lastgood.plan.plan import Request
from lastgood.plan.unfinished import leftover_of, refuse_abort, requested_run, run_of
from lastgood.postgres import clock, database, lock
from lastgood.postgres.database import Database
from lastgood.postgres.leftover import Leftover, drop_leftover
from lastgood.postgres.lock import lock_live
from lastgood.postgres.mark import Mark
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection
from lastgood.process import interrupts
from lastgood.run import runner, steps
from lastgood.run.context import Reversal


def abort(request: Request, emit: Emit) -> dict[str, Any]:
    """Revert a run that stopped before its swap: remove its shadow, identified by its mark on the server or, without
    a mark, if it is empty; and start the application again if the run had stopped it.

    Raises Refused if the run is active, or has switched (then use undo), and NotStarted.
    """
    live = request.target.dbname
    with database.connect_maintenance(request.target, live) as maintenance:
        left, name = lock_live(maintenance, live, lambda held: _find_run(held, request))
        skew = clock.skew(maintenance)
        journal = Journal.find(request.state, name)
        kept = _aborting(request, name, journal, emit, skew)
        ours = [
            (found, mark)
            for found, mark in left_by_runs(maintenance, request.target)
            if mark.run == name and mark.role != "kept"
        ]
        shadow = next((mark for _, mark in ours if mark.role == "shadow"), None)
        removed: list[str] = []
        with recording.recording(kept, emit) as emit:
            state = f'"{live}" was not touched; run {name} is reverted. The application is stopped.'
            try:
                # The application first, because users wait for it: removing a database may take long, and may fail.
                service = _service(request, name, journal, emit)
                application = _started_again(service, name, journal, shadow, emit, state)
            finally:
                _remove(maintenance, request, name, left, ours, removed)
            recording.write_end(kept, "aborted", removed=removed, application=application)
    return {
        "format": 1, "run": name, "status": "aborted", "live": live, "removed": removed, "application": application,
    }  # fmt: skip


def _remove(
    maintenance: Connection,
    request: Request,
    run: str,
    left: Leftover | None,
    ours: Sequence[tuple[Database, Mark]],
    removed: list[str],
) -> None:
    try:
        if left is not None:
            drop_leftover(maintenance, request.target, left, request.target.dbname)
            removed.append(left.name)
        build_role.close_if_left(maintenance, build_role.name_of(run))
        for found, mark in ours:
            if mark.role == "copy":
                lock.take_over_copy(maintenance, found.name)
            if mark.options.get("way") == "in-place":
                with request.target.connect(application_name=f"lastgood abort {run}") as live:
                    staged.drop_schemas(live, run)
            else:
                database.drop(maintenance, found.name, found.oid)
            removed.append(found.name)
        build_role.end(maintenance, request.target, build_role.name_of(run))
    except Blocked as error:
        error.hint = continued(error.hint, f"Then run: lastgood abort {run}")
        raise


def _aborting(request: Request, name: str, journal: Journal | None, emit: Emit, skew: float | None) -> Journal | None:
    """Record who reverts the run, and return the journal: that of the run, or a new one on this machine. Failures
    are ignored, because the abort does not depend on it."""
    if journal is not None:
        with suppress(OSError):
            recording.record_continuation(journal, "aborting", skew=skew)
        return journal
    if not run_names.is_run(name):
        return None  # only the end of its name is known
    return recording.begin_if_possible(request.context(emit), name, "abort", skew=skew, live=request.target.dbname)


def _find_run(maintenance: Connection, request: Request) -> tuple[Leftover | None, str]:
    """Return the unmarked database to remove, if ``request`` names one, and the run."""
    target, state = request.target, request.state
    unfinished_run = requested_run(maintenance, target, state, request.run, to_resume=False)
    if unfinished_run is None:
        left = leftover_of(maintenance, target, state, request.run)
        assert left is not None  # requested_run saw it, under the same lock
        return left, run_of(left, state)
    refuse_abort(unfinished_run, maintenance, target)
    # The run may have stopped the application, and been killed before it marked its database.
    return leftover_of(
        maintenance, target, state, unfinished_run.run
    ) if unfinished_run.database is None else None, unfinished_run.run


Again = Literal["started", "not stopped", "unknown"]


def _started_again(
    service: Service, run: str, journal: Journal | None, shadow: Mark | None, emit: Emit, state: str
) -> Again:
    stopped = service.record
    if stopped is None or stopped.by != run:
        if journal is None and shadow is not None and shadow.options.get("hooks") == "yes":
            emit(
                Caution(
                    f"unknown whether the run stopped the application: its journal is on "
                    f'"{shadow.host}"; if the application does not run, run: lastgood maintenance off'
                )
            )
            return "unknown"
        return "not stopped"
    emit(StageStarted("start", "start the application again"))
    service.start_again("reverting", state=state)
    service.forget()
    emit(StageDone("start", sum(each.seconds for each in service.results)))
    return "started"


def undo_switch(request: Request, failed: ChecksFailed, journal: Journal | None, emit: Emit) -> ChecksFailedAfterSwap:
    """Undo the switch of a run whose checks failed, by its steps, and return the error to raise. If it is killed,
    ``resume`` and ``abort`` continue from there.

    Raises Stopped if it cannot continue.
    """
    live, run = request.target.dbname, failed.run
    service = _service(request, run, journal, emit)
    report: undo.UndoReport | None = None

    def exchange_again() -> None:
        nonlocal report
        report = undo.undo(request.target, plan, request.context(emit), request.pgbouncer)

    def ask_for_patience() -> None:
        emit(Caution("restoring the previous database; press Ctrl+C again to stop at once"))

    try:
        with interrupts.on_signal(ask_for_patience, suspended=ask_for_patience):
            fault.point("application.before_undo")
            plan = undo.plan(request.target, live, run, request.pgbouncer)
            _write(journal, "undoing", by=plan.run, reason=caller.current().scrub(failed.problem))
            back = Reversal(run, request.application, service, emit, exchange_again)
            runner.reverse(back, steps.every(plan.way))
    except (Exception, KeyboardInterrupt) as error:
        stopped = service.record is not None and service.record.state == "stopped"
        state = failed.state if report is None else switched_back(live, in_place=failed.in_place)
        why = str(error).strip() or "interrupted"
        raise Stopped(
            f"cannot {'undo the switch' if report is None else 'finish the undo'}: {why}; "
            f"the application does not work with the restored database: {failed.problem}",
            hint=f"Run: lastgood {'undo' if report is None else 'resume'} {run}",
            state=state + (" The application is stopped." if stopped else ""),
        ) from error
    assert report is not None  # the step that commits has called ``exchange_again``
    again = "" if not request.application.starts else " The application was started again."
    in_place = report.way == "in-place"
    kept = f'objects are kept in the schemas "{plan.kept}"' if in_place else f'database is kept as "{plan.kept}"'
    hint = f"The restored {kept}; lastgood undo {plan.run} puts {'them' if in_place else 'it'} back into service."
    if back.not_running:
        again, hint = f" The application is not running: {back.not_running}.", f"{START_HINT}. {hint}"
    failure = ChecksFailedAfterSwap(
        f"cannot leave the restored database in service: {failed.problem}",
        hint=hint,
        state=switched_back(live, in_place=in_place) + again,
    )
    before = ApplicationReport.model_validate(failed.details.get("application") or {})
    application = before.model_copy(update={"hooks": (*before.hooks, *service.results)})
    failure.details = {
        "run": run,
        "undo": report.document(),
        "application": application.model_dump(mode="json"),
    }
    recording.write_end(journal, "undone", by=plan.run, error=recording.error_data(failure))
    return failure


def undone(request: Request, emit: Emit) -> None:
    """Complete a run that was killed while it undid its own switch: start the application again.

    Raises ChecksFailedAfterSwap for such a run, and does nothing for others.
    """
    stopped = record.read(request.state, request.target)
    if stopped is None or request.run not in (None, stopped.by):
        return
    live, run = request.target.dbname, stopped.by

    def undone_by(held: Connection) -> list[Mark]:
        return [mark for _, mark in left_by_runs(held, request.target) if mark.options.get("undoes") == run]

    with database.connect_maintenance(request.target, live) as maintenance:
        if not undone_by(maintenance):
            return  # and another run may have the lock
        by = lock_live(maintenance, live, undone_by)
        if not by:
            return
        journal = Journal.find(request.state, run)
        if journal is not None:
            with suppress(OSError):
                recording.record_continuation(
                    journal, "resumed", skew=clock.skew(maintenance), kind="rollback", live=live
                )
        in_place = by[0].options.get("way") == "in-place"
        state = switched_back(live, in_place=in_place)
        service = _service(request, run, journal, emit)
        _started_again(service, run, journal, None, emit, f"{state} The application is stopped.")
        recording.write_end(journal, "undone", by=by[0].run)
    raise ChecksFailedAfterSwap(
        f'cannot resume run "{run}": it was undone, since the application did not work with the restored database',
        hint=f"The restored objects are kept; lastgood undo {by[0].run} puts them back into service."
        if in_place
        else f"The restored database is kept; lastgood undo {by[0].run} puts it back into service.",
        state=f"{state} The application was started again.",
    )


def _service(request: Request, run: str, journal: Journal | None, emit: Emit) -> Service:
    def record_hook(result: HookResult) -> None:
        _write(journal, "hook", **result.model_dump(mode="json"))

    facts = hooks.environment(run=run, live=request.target.dbname)
    return Service(request.application, request.target, facts, request.context(emit), record_hook)


def _write(journal: Journal | None, event: str, **data: Any) -> None:
    """Write an entry, ignoring a full disk: it must not prevent the way back."""
    if journal is not None:
        with suppress(OSError):
            journal.write(event, **data)
