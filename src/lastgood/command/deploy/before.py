"""Before the migration: everything that must be known and made, so that it can be taken back. Nothing is changed here
but the application, where it is to be stopped, and that is taken back when anything speaks against the deployment."""

from __future__ import annotations

from dataclasses import replace

import psycopg

from lastgood import rollback
from lastgood.application import Application, health
from lastgood.application.service import HookFailed
from lastgood.command.deploy.around import of_the_server
from lastgood.command.deploy.course import Course
from lastgood.command.deploy.environment import resolved, tag
from lastgood.command.deploy.keys import Declared
from lastgood.command.deploy.migration import Command, command_of
from lastgood.command.deploy.report import Looked
from lastgood.command.validate import validate
from lastgood.errors import NOT_REACHED, Failed, Interrupted, LastgoodError, Refused
from lastgood.events import Caution, Note, StageDone, StageStarted
from lastgood.plan.plan import Choice, Plan, Request
from lastgood.points import RestorePoint, dump_point
from lastgood.postgres import errors as server_errors
from lastgood.postgres.mark import server_clock
from lastgood.postgres.outlived import Trace
from lastgood.postgres.rights import rights
from lastgood.postgres.state import DatabaseState
from lastgood.text.units import duration

LABEL = "before_deployment"


def made_ready(course: Course) -> Command:
    """The migration, ready to be run. From its end on the deployment is marked on the server as unfinished.

    Raises Refused, Failed, BadPoint, Interrupted, NotStarted: nothing was changed.
    """
    try:
        _baseline(course)
        _stop_application(course)
        point = _restore_point(course)
        _way_back(course, point)
        command = _command(course)
        if course.stop.is_set():
            raise Interrupted("interrupted before the migration began")
        course.journal.write("point", path=str(point.path))
        with course.timed("mark"):
            course.hold.say("migrating", str(point.path), course.wish.label, command.program)
    except BaseException as error:
        _undone(course)
        if isinstance(error, LastgoodError):
            error.state = f'"{course.live}" was not touched: the migration was not begun.'
            raise
        if isinstance(error, psycopg.Error):
            raise server_errors.failed(error, "prepare the deployment", state=NOT_REACHED) from error
        if isinstance(error, OSError):
            raise Failed(
                f"cannot prepare the deployment: {error.strerror or error}",
                hint="Make room or mend the folder, and deploy again.",
                state=f'"{course.live}" was not touched: the migration was not begun.',
            ) from error
        raise
    return command


def _undone(course: Course) -> None:
    course.note_outcome("changed nothing")
    if course.stopped:
        course.service.start_again("the deployment was not begun")
        course.service.forget()
        course.stopped = False


def _baseline(course: Course) -> None:
    """How things are before: only what is worse afterwards is the migration's."""
    wish, connection = course.wish, course.hold.connection()
    course.state = DatabaseState.read(connection, course.live)
    course.server = of_the_server(connection, course.live)
    with course.hold.target.connect(application_name="lastgood inspects") as inside:
        course.rights = rights(inside)
        course.keys = Declared.read(inside)
    if wish.settings.check != "none":
        with course.timed("before"):
            course.before = validate.validate(
                course.hold.target, wish.validation, wish.settings.check, course.emit, course.stop.is_set
            )
        course.found["before"] = Looked.of(course.before)
        if course.before.verdict == "NO-GO":
            names = ", ".join(course.before.blockers[:5])
            course.remark(f"NO-GO before the migration already ({names}): only what gets worse is taken back")
    application = wish.request.application
    if wish.settings.application and application.health is not None and not wish.settings.stop:
        once = replace(application, health=application.health.model_copy(update={"deadline": 0.0}))
        asked = health.ask(once, course.stop.is_set)
        course.healthy_before = not asked.problem
        if asked.problem:
            course.remark(
                f"the application was not well before the migration ({asked.problem}): its health decides nothing"
            )


def _stop_application(course: Course) -> None:
    application = course.wish.request.application
    if not course.wish.settings.stop:
        return
    if not application.stops:
        raise Refused(
            'cannot deploy: [deploy] says stop, and lastgood.toml has no hook "maintenance_on" or "stop"',
            hint="Add one of them to [hooks], or leave stop out.",
        )
    for problem in application.problems():
        if problem.stops:
            raise Refused(f"cannot deploy: {problem.text}", hint=problem.hint)
    course.emit(StageStarted("stop", "stop the application"))
    course.stopped = True
    try:
        with course.timed("stop"):
            course.service.stop(course.hold.run, "before the migration", course.stop.is_set)
    except HookFailed as error:
        raise Failed(f"cannot stop the application: {error}", hint="Mend the hook in lastgood.toml.") from error
    remembered = course.service.record
    course.stopped = remembered is not None and remembered.by == course.hold.run  # else by hand: left to that person
    course.emit(StageDone("stop", sum(each.seconds for each in course.service.results)))


def _restore_point(course: Course) -> RestorePoint:
    wish = course.wish
    course.emit(StageStarted("backup", "make the restore point"))
    with course.timed("backup"):
        point = dump_point.take(
            course.hold.target,
            wish.request.store,
            label=wish.label or LABEL,
            form=wish.form,
            emit=course.emit,
            cancelled=course.stop.is_set,
        )
    course.point = point
    course.emit(StageDone("backup", course.seconds("backup"), f"{point.path.name}, verified"))
    return point


def request_back(course: Course, point: RestorePoint) -> Request:
    """The rollback that takes the deployment back. Nobody can be asked then, and the migrated database is not put into
    service again because the application does not work with the restored one."""
    request = course.wish.request
    application = replace(request.application, on_failure="keep", watch=None)
    if course.stopped:
        application = without_stop(application)  # and a rollback that fails leaves it stopped
    # The emergency backup compares content: this plan is not shown, and the application waits.
    check = request.check.model_copy(update={"compare_limit": 0.0})
    choice = Choice(point=str(point.path))
    return replace(request, choice=choice, fence="now", run=None, application=application, check=check)


def without_stop(application: Application) -> Application:
    """The application, stopped already."""
    return replace(application, hooks=application.hooks.model_copy(update={"stop": None, "maintenance_on": None}))


def _way_back(course: Course, point: RestorePoint) -> None:
    """A deployment that could not be taken back is not begun. The plan is the very one that would be carried out."""
    with course.timed("plan"):
        prepared = rollback.plan(request_back(course, point), course.emit)
    plan: Plan = prepared.plan
    if plan.refusals:
        first = plan.refusals[0]
        go_on = f"To deploy in spite of it: --override {first.item} --reason TEXT" if not first.final else ""
        raise Refused(
            f"cannot deploy: it could not be taken back: {first.text}",
            hint=f"{first.hint.rstrip('.')}. {go_on}".strip(". ") if first.hint else go_on,
        )
    for finding in plan.findings:
        if finding.level == "caution":
            course.emit(Caution(finding.text))
    if plan.expected_seconds is not None:
        course.emit(Note(f"going back would take about {duration(plan.expected_seconds)}"))


def _command(course: Course) -> Command:
    wish, hold = course.wish, course.hold
    keywords = resolved(hold.target, hold.live)
    connection = hold.connection()
    course.trace = Trace(tag(hold.run), keywords["user"], server_clock(connection))
    assert course.point is not None
    return command_of(wish, keywords, hold.run, point=str(course.point.path))
