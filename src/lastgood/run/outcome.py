"""The outcome of a run: its report, or the error with the state of the live database as the server shows it."""

from __future__ import annotations

import psycopg

from lastgood.application.results import ApplicationReport
from lastgood.errors import (
    Blocked,
    Failed,
    Interrupted,
    LastgoodError,
    NotStarted,
    Stopped,
    continued,
    restored,
    untouched,
)
from lastgood.loss import Comparing, Settling, revivals, settled
from lastgood.plan.loss import outside
from lastgood.points import VerifiedPoint
from lastgood.postgres import errors as server_errors
from lastgood.process.run import ChildFailed
from lastgood.run import steps
from lastgood.run.context import Run
from lastgood.run.report import (
    CarriedOverReport,
    FenceReport,
    Report,
    Seconds,
    proved_tables,
    skipped_of,
)
from lastgood.run.runner import AfterCommit, UndoFailed
from lastgood.run.steps.build import Built
from lastgood.run.steps.carry_over import CarriedOver
from lastgood.run.steps.emergency import BackedUp
from lastgood.run.steps.fence import Fenced
from lastgood.run.steps.finish import Completed
from lastgood.run.steps.prove import Proved
from lastgood.run.steps.reopen import Reopened
from lastgood.run.steps.service import Checked, application_report
from lastgood.run.steps.swap import Switched
from lastgood.run.steps.watch import Watched


def report_of(run: Run, total: float) -> Report:
    """Return the report of a run whose steps are all done, without the results of other processes."""
    plan = run.plan
    switched, built, proved = run.result(Switched), run.result(Built), run.result(Proved)
    backed_up, completed = run.result(BackedUp), run.result(Completed)
    emergency = str(backed_up.path) if backed_up is not None and backed_up.path is not None else None
    prepared, request = run.prepared, run.prepared.request
    whole = VerifiedPoint(prepared.point, prepared.source, prepared.facts, prepared.summary)
    how = Comparing(request.compare, request.check.compare_limit, request.loss)
    settling = Settling(lambda context: whole, how, request.context(run.emit))
    lost = settled(plan.loss, emergency, prepared.facts, settling)
    return Report(
        run=plan.run,
        point=plan.point,
        live=plan.live,
        kept=plan.kept,
        shadow=plan.shadow,
        way=plan.way,
        tables=proved_tables(proved.comparison if proved is not None else None),
        carried_over=_carried_over(run),
        fence=_fence(run),
        seconds=Seconds(
            plan=round(run.prepared.seconds, 3),
            steps={
                each.name: round(run.seconds[each.name], 3)
                for each in steps.every(run.plan.way)
                if each.name in run.seconds
            },
            write_outage=round(_write_outage(run), 3),
            read_outage=round(switched.exchanged.outage if switched is not None else 0.0, 3),
            total=round(total, 3),
        ),
        emergency_backup=emergency,
        skipped=skipped_of(built.loaded.skipped) if built is not None else (),
        repaired=tuple(built.loaded.repaired) if built is not None else (),
        not_compared=proved.comparison.not_compared if proved is not None else (),
        pause=switched.pause.report if switched is not None and switched.pause is not None else None,
        finished=completed.finished if completed is not None else None,
        verdict=plan.checklist.verdict,
        overrides=plan.checklist.overrides,
        attestations=plan.checklist.attestations,
        application=_application(run),
        loss=lost,
        revivals=(*revivals(lost, request.loss), *(each for each in plan.revivals if each.kind == "grant")),
        outside=outside(lost),
        code=plan.code,
        undo_command=f"lastgood undo {plan.run}",
    )


def _carried_over(run: Run) -> CarriedOverReport:
    carried, switched, reopened = run.result(CarriedOver), run.result(Switched), run.result(Reopened)
    remarks = carried.remarks if carried is not None else ()
    return CarriedOverReport(
        settings=switched.settings if switched is not None else 0,
        privileges=carried.privileges if carried is not None else 0,
        roles_tried=carried.roles_tried if carried is not None else (),
        remarks=(*remarks, *(reopened.left if reopened is not None else ())),
    )


def _fence(run: Run) -> FenceReport:
    switched, reopened = run.result(Switched), run.result(Reopened)
    known = (reopened.fence if reopened is not None else None) or (switched.fence if switched is not None else None)
    return known or FenceReport(kind="none", proof="", writes_after=None)


def _write_outage(run: Run) -> float:
    """Return the seconds from the fence to the swap's commit; of the swap alone with ``--fence at-swap``."""
    fenced, switched = run.result(Fenced), run.result(Switched)
    if switched is None:
        return 0.0
    return switched.at - fenced.began if fenced is not None and fenced.began is not None else switched.exchanged.outage


def _application(run: Run) -> ApplicationReport | None:
    checked, watched = run.result(Checked), run.result(Watched)
    health = (watched.health if watched is not None else None) or (checked.health if checked is not None else None)
    return application_report(run, health, watched.watch if watched is not None else None)


def outcome_error(run: Run, error: BaseException) -> BaseException:
    """Return the error to show to the user, with the state of the live database as read from the server."""
    live, name = run.plan.live, run.plan.run
    after = switched(run)
    stopped = run.service.record
    app_state = " The application is stopped." if stopped is not None and stopped.state == "stopped" else ""
    if after is None and not isinstance(error, Stopped):
        return Stopped(
            f"cannot verify the switch: the server does not answer ({_reason(error)})",
            hint=f"When the server answers again, run: lastgood status, then: lastgood resume {name}",
            state=f'"{live}" is either as it was or fully switched; never in between.{app_state}',
        )
    if after and not isinstance(error, Stopped):
        return Stopped(
            f"cannot finish the run after the switch: {_reason(error)}",
            hint=f"To finish: lastgood resume {name}; to undo the switch: lastgood undo {name}",
            state=restored(live, run.plan.kept, in_place=run.plan.way == "in-place") + app_state,
        )
    unchanged = untouched(live, is_open=_is_open(run))
    if run.started_again:
        unchanged += " The application was started again."
    if isinstance(error, UndoFailed) and isinstance(error.__cause__, NotStarted):
        return NotStarted(
            f"{error.__cause__}; the run had failed: {_reason(error.__context__ or error)}",
            hint=error.__cause__.hint,
            state=f"{unchanged} The application is stopped.",
        )
    if isinstance(error, UndoFailed | AfterCommit | KeyboardInterrupt):
        cause = error.__cause__
        why = f"{cause}" if cause else "interrupted twice"
        ways = f'To remove "{run.plan.shadow}": lastgood abort {name}; to continue: lastgood resume {name}'
        return Stopped(
            f"cannot revert the run: {why}",
            hint=continued(cause.hint, ways) if isinstance(cause, Blocked) else ways,
            state=f'"{live}" was not touched.{app_state}',
        )
    if run.shadow_kept:
        what = "The restored objects are" if run.plan.way == "in-place" else "The restored database is"
        unchanged += f' {what} kept for inspection as "{run.plan.shadow}".'
    if run.interrupted and not isinstance(error, Stopped):
        return Interrupted("interrupted: the changes of the run were reverted", state=unchanged)
    if isinstance(error, Blocked):
        return Failed(error.message, hint=continued(error.hint, "Then run the rollback again."), state=unchanged)
    if isinstance(error, LastgoodError):
        if not isinstance(error, Stopped):
            error.state = unchanged
        return error
    if isinstance(error, psycopg.OperationalError):
        return Failed(
            f"cannot continue: a connection to the server was lost or refused: {str(error).strip()}",
            hint="When the server accepts connections again, run: lastgood status, then run the rollback again.",
            state=unchanged,
        )
    if isinstance(error, psycopg.Error):
        failed = server_errors.failed(error, f'roll back "{live}"')
        failed.state = unchanged
        return failed
    if isinstance(error, ChildFailed):
        hint = f"{error.tail.strip()[-500:]}\nTo see what that means: lastgood explain {name}"
        return Failed(f"cannot continue: {error}", hint=hint.strip(), state=unchanged)
    if isinstance(error, OSError):
        return Failed(
            f"cannot continue: {error.strerror or error}" + (f' ("{error.filename}")' if error.filename else ""),
            hint="Free disk space or make the folder writable, then run the rollback again.",
            state=unchanged,
        )
    return error


def _reason(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).strip()


def _is_open(run: Run) -> bool:
    """Whether the live database accepts connections; False if the server does not answer."""
    try:
        with run.server.connect() as connection:
            row = connection.execute(
                "SELECT datallowconn FROM pg_catalog.pg_database WHERE oid = %s", [run.plan.live_oid]
            ).fetchone()
    except psycopg.Error:
        return False
    return row is not None and bool(row[0])


def switched(run: Run) -> bool | None:
    """Whether the switch is committed, as the server shows it; None if it does not answer after the swap began. Read
    from the server, because an interrupt or a lost connection may come at any moment."""
    return steps.commit_point(run.plan.way).switched(run) if run.at_swap else False
