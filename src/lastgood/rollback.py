"""THE STORY: how a database is rolled back to its last good state.

    choose ─ plan ─ check ─ stop ─┬─ fence ──────────────┬─ swap ─ reopen ─ start ─ checks ─ watch ─ (finish)
                                  ├─ emergency backup ───┤
                                  └─ build ─ carry over ─ prove ┘

The application is stopped, started, checked and watched as configured in lastgood.toml.

With ``--reopen-when usable``, ``finish`` builds some indexes and validates foreign keys after the switch.

``plan`` changes nothing. ``run`` executes the plan, or reverts it. ``resume`` continues a stopped run, on any machine;
``abort`` reverts it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from lastgood import abort as abandon
from lastgood.application import record
from lastgood.config.tables import NO_PGBOUNCER
from lastgood.errors import ChecksFailed, ChecksFailedAfterSwap
from lastgood.events import Caution, Emit, ExpectedStages, Note, silent
from lastgood.journal import Journal, recording
from lastgood.plan.plan import Prepared, Request
from lastgood.plan.unfinished import Unfinished, as_planned, requested_run, reread, unfinished
from lastgood.postgres import database
from lastgood.postgres.exchange import helper_session
from lastgood.postgres.lock import Claim, holder, lock_live
from lastgood.postgres.server import Connection
from lastgood.process import interrupts
from lastgood.run import pause, prepare, rest, steps
from lastgood.run.context import Run
from lastgood.run.outcome import outcome_error, report_of
from lastgood.run.report import FinishReport, Report
from lastgood.run.runner import drive, wanted
from lastgood.run.steps.fence import release as release_fence


def plan(request: Request, emit: Emit = silent) -> Prepared:
    """Plan a rollback: its steps and the loss. Changes nothing. Raises BadPoint, Refused."""
    return prepare.prepare(request, emit)


def run(prepared: Prepared, emit: Emit = silent, claim: Claim | None = None) -> Report:
    """Execute the plan. Returns when the proved database has the live name. ``claim``: the lock of a deployment that
    rolls back automatically.

    Raises Refused if the plan has refusals or another run is active, Failed and Interrupted after undoing its steps
    (the live database is as it was), Stopped if that failed. ChecksFailed: the restored database is in service, but the
    application does not work with it; ``undo_switch`` undoes the switch.
    """
    if (refused := prepared.plan.refused()) is not None:
        raise refused
    plan = prepared.plan
    journal = recording.begin(
        prepared.request.state,
        plan.run,
        "rollback",
        skew=prepared.skew,
        live=plan.live,
        plan=plan.model_dump(mode="json"),
        **({"deployment": claim.by} if claim is not None else {}),
    )
    with recording.recording(journal, emit) as emit, _session(prepared, claim) as maintenance:
        lock_live(maintenance, plan.live, lambda held: as_planned(held, plan))
        return _execute(Run(prepared, maintenance, journal, emit), goes_back=claim is not None)


def resume(request: Request, emit: Emit = silent) -> Report | FinishReport:
    """Continue the run ``request.run``, by default the only unfinished run of the live database.

    Steps that are complete on the server are skipped; everything is proved again before the swap. Works without the
    journal: the shadow's mark names the restore point. After the swap, the restore point is not needed.
    """
    started = time.monotonic()
    pause.resume_clients_before(request, emit)
    abandon.undone(request, emit)
    left, stopped = rest.left(request), record.read(request.state, request.target)
    if left is not None and (stopped is None or stopped.by != left.run):
        if not (left.in_place and rest.is_checked(request, left.run, emit)):
            done = rest.resume(request, left, emit)
            seconds = round(time.monotonic() - started, 3)
            return FinishReport(run=left.run, live=request.target.dbname, finished=done, seconds=seconds)
        request = replace(request, run=left.run)
    prepared, before = prepare.prepare_again(request, emit)
    plan = prepared.plan
    with _session(prepared) as maintenance:
        # The journal is written only under the lock: another session may be working on the run.
        unfinished_run = lock_live(
            maintenance, plan.live, lambda held: reread(held, request.target, request.state, before)
        )
        journal = Journal.find(request.state, plan.run)
        if journal is None:
            emit(Note("this machine has no journal of the run; continuing from its marks on the server"))
            journal = Journal.create(request.state, plan.run)
        recording.record_continuation(
            journal, "resumed", skew=prepared.skew, kind="rollback", live=plan.live, plan=plan.model_dump(mode="json")
        )
        with recording.recording(journal, emit) as emit:
            return _execute(Run(prepared, maintenance, journal, emit, switched=unfinished_run.switched))


def ensure_unfinished(request: Request, *, to_resume: bool) -> Unfinished | None:
    """Return the run to resume or abort, before anyone is asked for consent; None where something else is left. Raises
    Refused if nothing is left."""
    if request.pgbouncer != NO_PGBOUNCER or record.read(request.state, request.target) is not None:
        return None  # clients to let go, or an application to start, may be all that is left
    if to_resume and rest.left(request) is not None:
        return None
    with database.connect_maintenance(request.target, request.target.dbname) as maintenance:
        return requested_run(maintenance, request.target, request.state, request.run, to_resume=to_resume)


def resumable(request: Request) -> str:
    """Return the name of an unfinished run that can be resumed instead of starting a new one; empty if none."""
    live = request.target.dbname
    with database.connect_maintenance(request.target, live) as maintenance:
        if holder(maintenance, live) is not None:
            return ""
        every = unfinished(maintenance, request.target, request.state)
    return next((each.run for each in reversed(every) if not (each.obstacle or each.not_here or each.switched)), "")


def _session(prepared: Prepared, claim: Claim | None = None) -> Connection:
    """Open the session that holds the lock, with the run in its application_name."""
    live = prepared.plan.live
    target = prepared.request.target
    connection = claim.connection if claim is not None else database.connect_maintenance(target, live)
    connection.execute("SELECT set_config('application_name', %s, false)", [prepare.lock_name(prepared.plan.run)[:63]])
    return connection


def _execute(run: Run, *, goes_back: bool = False) -> Report:
    try:
        return _drive(run, goes_back)
    except ChecksFailed as error:
        if run.application.on_failure == "undo":
            raise abandon.undo_switch(run.prepared.request, error, run.journal, run.emit) from error
        raise


def _drive(run: Run, goes_back: bool) -> Report:
    started = time.monotonic()
    try:
        run.helper = helper_session(run.server)
        first = [run.ignore_interrupt] if goes_back else []
        with interrupts.on_signal(
            run.stop_as_asked, mark=run.mark_interrupted, before=first, suspended=run.refuse_suspension
        ):
            way = run.plan.way
            stages = steps.after_commit(way) if run.at_swap else steps.stages(way)
            run.emit(_course(run, stages))
            drive(run, stages)
    except BaseException as error:
        # Where the error itself is raised, it must not become its own cause.
        shown = outcome_error(run, error)
        raise shown from (None if shown is error else error)
    finally:
        release_fence(run)
        run.close()
    report = report_of(run, time.monotonic() - started)
    try:
        run.journal.write("ended", status=report.status, report=report.document())
    except OSError as error:
        run.emit(Caution(f'the rollback is done, but "{run.journal.path}" could not be written: {error.strerror}'))
    return report


def _course(run: Run, stages: steps.Stages) -> ExpectedStages:
    """Describe the run for a bar. The build and the emergency backup run in parallel."""
    names = [step.name for lanes in wanted(stages, run) for lane in lanes for step in lane]
    plan = run.plan
    known = [each for each in (plan.expected_seconds, plan.expected_backup_seconds) if each is not None]
    seconds = max(known) if plan.expected_seconds is not None else None
    return ExpectedStages(tuple(names), longest="build", seconds=seconds)


def undo_switch(request: Request, failed: ChecksFailed, emit: Emit = silent) -> ChecksFailedAfterSwap:
    """Undo the switch of a run whose checks failed, and return the error to raise. Raises Stopped."""
    journal = Journal.find(request.state, failed.run)
    with recording.recording(journal, emit) as emit:
        return abandon.undo_switch(request, failed, journal, emit)


def abort(request: Request, emit: Emit = silent) -> dict[str, Any]:
    """Revert a run that stopped before its swap. Raises Refused if it is active, or has switched."""
    pause.resume_clients_before(request, emit)
    return abandon.abort(request, emit)
