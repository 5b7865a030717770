"""The outcome of a failed deployment: unchanged, rolled back, or left for the operator with the next command."""

from __future__ import annotations

import psycopg

from lastgood.command.deploy import around, way_back
from lastgood.command.deploy.before import request_back
from lastgood.command.deploy.changes import reads
from lastgood.command.deploy.course import Course, words
from lastgood.command.deploy.report import CommandReport, Result
from lastgood.dump.names import shown
from lastgood.errors import (
    ChecksFailed,
    Failed,
    Interrupted,
    LastgoodError,
    NotTakenBack,
    Stopped,
    TakenBack,
)
from lastgood.events import StageDone, StageStarted
from lastgood.loss import Settling, settled
from lastgood.plan.loss import TableLoss
from lastgood.postgres import database
from lastgood.run.report import Report
from lastgood.text.quoting import argument

AGAIN = "Fix the migration, test it with lastgood deploy --dry-run, then deploy again."
ERRORS = "psql stops at the first error with -v ON_ERROR_STOP=1. To accept harmless errors: --allow-errors REASON."


def taken_back(course: Course, problem: str, *, of_migration: bool) -> LastgoodError:
    """Roll the deployment back and return the error that reports the outcome. ``of_migration``: the migration itself
    failed, so it may have left no change."""
    course.note("failed", reason=problem)
    try:
        return _taken_back(course, problem, of_migration=of_migration)
    except ChecksFailed as error:
        return _checks_failed(course, problem, error)
    except (Exception, KeyboardInterrupt) as error:
        return left_alone(course, problem, error)


def _taken_back(course: Course, problem: str, *, of_migration: bool) -> LastgoodError:
    assert course.trace is not None and course.point is not None and course.point.manifest is not None
    with course.timed("sessions"):
        ended = way_back.end_sessions(course.hold, course.trace, course.seen, course.emit)
    if "command" in course.found:
        command = course.found["command"]
        course.found["command"] = command.model_copy(update={"sessions_ended": ended})
    around.put_back(course)
    around.remark_on_server(course)
    with course.timed("compare"):
        left = way_back.remains(course.hold.target, course.point.manifest.facts, course.rights, course.emit)
    course.found["compared"] = left.summary
    course.found["moved"] = left.moved
    point = course.point.path.name
    if left.nothing:
        state = f'"{course.live}" is unchanged and open. It was compared with {point}: {left.summary}.'
        return _unchanged(course, problem, state)
    if of_migration and left.only_rows and course.request.settings.only_rows == "keep":
        state = (
            f'"{course.live}" is open, and its schema is unchanged. Rows differ from {point}, written by the '
            f"migration or by the application ({left.summary}). They are kept, because [deploy] sets only_rows = "
            '"keep".'
        )
        return _unchanged(course, problem, state)
    return _rolled_back(course, problem)


def _unchanged(course: Course, problem: str, state: str) -> LastgoodError:
    course.hold.settle()
    course.note_outcome("changed nothing")
    again = ""
    if course.stopped:
        course.emit(StageStarted("start", "start the application again"))
        course.service.start_again("the deployment failed", state=f"{state}{course.stopped_note}")
        course.service.forget()
        course.stopped = False
        course.emit(StageDone("start", course.service.results[-1].seconds if course.service.results else 0.0))
        again = " The application was started again."
    kind = Interrupted if course.context.cancelled() else Failed
    hint = again_of(course)
    return _error(course, kind(f"cannot deploy: {problem}", hint=hint, state=state + again), "unchanged", problem)


def again_of(course: Course) -> str:
    """Return the hint how to try the migration again."""
    command: CommandReport | None = course.found.get("command")
    return f"{AGAIN} {ERRORS}" if command is not None and command.status == 0 and command.errors else AGAIN


def _rolled_back(course: Course, problem: str) -> LastgoodError:
    assert course.point is not None and course.point.manifest is not None

    planned: tuple[TableLoss, ...] = ()

    def keep_plan(loss: tuple[TableLoss, ...]) -> None:
        nonlocal planned
        planned = loss
        course.found["loss"] = way_back.changed(loss)

    course.hold.record_stage("rolling back")
    with course.timed("rollback"):
        report = way_back.go_back(course.hold, request_back(course, course.point), course.point, course.emit, keep_plan)
    # The mark went with the database that was replaced.
    course.hold.mark = None
    started = course.stopped and course.request.base.application.starts
    again = " The application was started again." if started else course.stopped_note
    course.stopped = False
    _in_service(course, report)
    settling = Settling(reads(course.point), course.comparing, course.request.base.context(course.emit))
    course.found["loss"] = way_back.changed(
        settled(planned, report.emergency_backup, course.point.manifest.facts, settling)
    )
    kind = Interrupted if course.context.cancelled() else TakenBack
    error = kind(
        f"cannot deploy: {problem}",
        hint=f"{again_of(course)} {_kept(report)}",
        state=f'"{course.live}" was rolled back to {course.point.path.name}, every table is proved, and it is '
        f"open.{again}",
    )
    return _error(course, error, "rolled back", problem)


def _kept(report: Report) -> str:
    if report.way == "in-place":
        return f'The migrated objects are kept in the schemas "{report.kept}".'
    name = shown(report.kept)
    return f'The migrated database is kept as "{name}"; to inspect it: lastgood facts {argument(name)}'


def _in_service(course: Course, report: Report) -> None:
    course.found["rollback"] = report
    course.found["kept"] = report.kept
    course.found["undo_command"] = report.undo_command


def _checks_failed(course: Course, problem: str, error: ChecksFailed) -> LastgoodError:
    """Return the error after a rollback whose application checks failed: an operator must decide."""
    course.hold.mark = None
    failure = ChecksFailed(
        f"cannot deploy: {problem}. The deployment was rolled back, but the application does not work with the "
        f"restored database either: {error.problem}",
        hint=error.hint,
        state=error.state,
        run=error.run,
        problem=error.problem,
    )
    return _error(course, failure, "rolled back", problem)


def left_alone(course: Course, problem: str, error: BaseException) -> LastgoodError:
    """Return the error of a failed rollback, with the next command."""
    if isinstance(error, Stopped) and not isinstance(error, NotTakenBack):
        # The rollback itself was interrupted; its hint and state are the right ones.
        hint, state = error.hint, f"{error.state}{course.stopped_note}"
    else:
        first = f"{error.hint.rstrip('.')}. Then run" if isinstance(error, LastgoodError) and error.hint else "Run"
        hint, state = _as_it_is(course, first)
    why = words(error).removeprefix("cannot continue: ")
    failure = NotTakenBack(
        f"cannot roll back the failed deployment: {why} (it failed because: {problem})",
        hint=hint,
        state=state,
    )
    return _error(course, failure, "not rolled back", problem)


def _as_it_is(course: Course, first: str) -> tuple[str, str]:
    """Return the next command and the actual state on the server."""
    live = course.live
    try:
        connection = course.hold.connection(lambda: True)  # the wait is already over
        exchanged = course.hold.exchanged(connection)
        found = database.find(connection, live)
    except (LastgoodError, psycopg.Error):
        state, rolls_back = f'The state of "{live}" is unknown: the server is unreachable.', True
    else:
        opened = "open" if found is not None and found.allow_connections else "closed to connections"
        state = f'"{live}" is as the migration left it, and {opened}.'
        rolls_back = found is not None
        if exchanged:
            state = f"{exchanged[0].upper()}{exchanged[1:]} since the deployment started."
    point = course.point.path if course.point is not None else None
    if point is None or not point.exists():
        gone = f" The restore point {point} no longer exists." if point is not None else ""
        return (
            "Run lastgood recover to find what can be restored.",
            state + gone + course.stopped_note,
        )
    other = f", or: lastgood rollback {point}" if rolls_back else ""
    return f"{first}: lastgood recover{other}", f"{state} The restore point is {point}.{course.stopped_note}"


def _error(course: Course, error: LastgoodError, status: Result, problem: str) -> LastgoodError:
    error.details = {"deployment": course.over(status, problem, error).document()}
    return error
