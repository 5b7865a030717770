"""Preparation before the migration: everything needed to roll it back. It changes nothing, except that it stops the
application if configured; that is reversed if the deployment is refused."""

from __future__ import annotations

from dataclasses import replace

import psycopg

from lastgood import checks, rollback
from lastgood.application import Application, health
from lastgood.application.service import HookFailed
from lastgood.checklist import Checklist, Finding, remedy
from lastgood.checks.privileges import FENCE_LATER
from lastgood.command.deploy.around import of_the_server
from lastgood.command.deploy.course import Course
from lastgood.command.deploy.environment import resolved, tag
from lastgood.command.deploy.keys import Declared
from lastgood.command.deploy.migration import MigrationCommand, command_of
from lastgood.command.validate import validate
from lastgood.errors import NOT_REACHED, Failed, LastgoodError, Refused
from lastgood.events import Caution, Note, StageDone, StageStarted, reported
from lastgood.plan.plan import Choice, Plan, Request
from lastgood.points import RestorePoint, dump_point
from lastgood.postgres import clock, database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.access.rights import rights
from lastgood.postgres.remaining_sessions import ProgramTrace
from lastgood.postgres.state import DatabaseState
from lastgood.run.prepare import connect_live
from lastgood.text.quoting import identifier
from lastgood.text.units import duration

LABEL = "before_deployment"


def made_ready(course: Course) -> MigrationCommand:
    """Prepare the migration command. On return, the deployment is marked on the server as unfinished.

    Raises Refused, Failed, BadPoint, Interrupted, NotStarted; then nothing was changed.
    """
    try:
        _check(course)
        _baseline(course)
        _stop_application(course)
        point = _restore_point(course)
        _way_back(course, point)
        command = _command(course)
        course.context.check("interrupted before the migration started")
        course.journal.write("point", path=str(point.path))
        with course.timed("mark"):
            course.hold.record_stage("migrating", str(point.path), course.request.label, command.program)
    except BaseException as error:
        _undone(course)
        if isinstance(error, LastgoodError):
            error.state = f'"{course.live}" was not touched: the migration was not started.'
            raise
        if isinstance(error, psycopg.Error):
            raise server_errors.failed(error, "prepare the deployment", state=NOT_REACHED) from error
        if isinstance(error, OSError):
            raise Failed(
                f"cannot prepare the deployment: {error.strerror or error}",
                hint="Free disk space or fix the folder, then deploy again.",
                state=f'"{course.live}" was not touched: the migration was not started.',
            ) from error
        raise
    return command


def _check(course: Course) -> None:
    """Run all checks of the rollback that need no restore point, before one is made and the application is stopped; and
    try to mark the database. Raises Refused."""
    request, connection = replace(course.request.base, fence="now"), course.hold.connection()
    with course.timed("check"), connect_live(course.hold.target, course.live) as live:
        found = database.describe(connection, course.live)
        results = checks.results(checks.Subject.of(request, connection, live, found, checks.PointReading()))
    given = Checklist(overrides=request.overrides)
    every = checks.findings(results)
    refused = [each for each in every if each.item != "restore_point" and given.refuses(each)]
    if refused:
        raise _impossible(refused[0], every)
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(database.comment_statement(course.live, found.comment))
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f"cannot deploy: a deployment is marked in the comment of its database: {server_errors.message_of(error)}",
            hint=f"As a superuser: ALTER DATABASE {identifier(course.live)} OWNER TO "
            f"{identifier(connection.info.user)}. Or make a restore point with lastgood backup, and migrate yourself.",
        ) from error


def _impossible(refusal: Finding, every: tuple[Finding, ...]) -> Refused:
    return Refused(
        f"cannot deploy: a rollback would not be possible: {refusal.text}",
        hint=remedy(refusal, every, "To deploy despite it").replace(FENCE_LATER, ""),
    )


def _undone(course: Course) -> None:
    course.note_outcome("changed nothing")
    if course.stopped:
        course.service.start_again("the deployment was not started")
        course.service.forget()
        course.stopped = False


def _baseline(course: Course) -> None:
    """Record the state before the migration: only what is worse afterwards counts against it."""
    request, connection = course.request, course.hold.connection()
    course.state = DatabaseState.read(connection, course.live)
    course.server = of_the_server(connection, course.live)
    with course.hold.target.connect(application_name="lastgood inspects") as inside:
        course.rights = rights(inside)
        course.keys = Declared.read(inside)
    if request.settings.check != "none":
        with course.timed("before"):
            course.before = validate.validate(
                course.hold.target, request.validation, request.settings.check, course.context
            )
        course.found["before"] = course.before.summary
        if course.before.verdict == "NO-GO":
            names = ", ".join(course.before.blockers[:5])
            course.remark(
                f"validation is NO-GO before the migration ({names}): only new or worse failures cause a rollback"
            )
    application = request.base.application
    if request.settings.application and application.health is not None and not request.settings.stop:
        once = replace(application, health=application.health.model_copy(update={"deadline": 0.0}))
        result = health.check_health(once, course.context.cancelled)
        course.healthy_before = not result.problem
        if result.problem:
            course.remark(f"the health check failed before the migration ({result.problem}): its result is not used")


def _stop_application(course: Course) -> None:
    application = course.request.base.application
    if not course.request.settings.stop:
        return
    if not application.stops:
        raise Refused(
            'cannot deploy: [deploy] sets stop, but lastgood.toml has no hook "maintenance_on" or "stop"',
            hint="Add one of them to [hooks], or remove stop.",
        )
    for problem in application.problems():
        if problem.stops:
            raise Refused(f"cannot deploy: {problem.text}", hint=problem.hint)
    course.emit(StageStarted("stop", "stop the application"))
    course.stopped = True
    try:
        with course.timed("stop"):
            course.service.stop(course.hold.run, "before the migration", course.context.cancelled)
    except HookFailed as error:
        raise Failed(f"cannot stop the application: {error}", hint="Fix the hook in lastgood.toml.") from error
    record = course.service.record
    course.stopped = record is not None and record.by == course.hold.run  # else stopped by hand: leave it stopped
    course.emit(StageDone("stop", sum(each.seconds for each in course.service.results)))


def _restore_point(course: Course) -> RestorePoint:
    request = course.request
    with reported(course.emit, "backup", "make the restore point") as stage, course.timed("backup"):
        point = dump_point.take(
            course.hold.target,
            request.base.store,
            label=request.label or LABEL,
            form=request.form,
            context=course.context,
        )
        stage.detail = f"{point.path.name}, verified"
    course.point = point
    return point


def request_back(course: Course, point: RestorePoint) -> Request:
    """Build the rollback of the deployment. It runs without confirmation. If the application does not work with the
    restored database, the migrated one is not put back into service."""
    request = course.request.base
    application = replace(request.application, on_failure="keep", watch=None)
    if course.stopped:
        application = without_stop(application)  # a rollback that fails leaves it stopped
    # The emergency backup is compared afterwards. This plan is not shown, and the application waits.
    choice = Choice(point=str(point.path))
    return replace(request, choice=choice, fence="now", run=None, application=application, compare="none")


def without_stop(application: Application) -> Application:
    """Return the application without the hooks that stop it, because it is stopped already."""
    return replace(application, hooks=application.hooks.model_copy(update={"stop": None, "maintenance_on": None}))


def _way_back(course: Course, point: RestorePoint) -> None:
    """Plan the rollback, the same as would be carried out. Raises Refused if it is impossible."""
    with course.timed("plan"):
        prepared = rollback.plan(request_back(course, point), course.emit)
    plan: Plan = prepared.plan
    if plan.refusals:
        raise _impossible(plan.refusals[0], plan.findings)
    for finding in plan.findings:
        if finding.level == "caution":
            course.emit(Caution(finding.text))
    if plan.expected_seconds is not None:
        course.emit(Note(f"a rollback would take about {duration(plan.expected_seconds)}"))


def _command(course: Course) -> MigrationCommand:
    request, hold = course.request, course.hold
    keywords = resolved(hold.target, hold.live)
    connection = hold.connection()
    course.trace = ProgramTrace(tag(hold.run), keywords["user"], clock.now(connection))
    assert course.point is not None
    return command_of(request, keywords, hold.run, point=str(course.point.path))
