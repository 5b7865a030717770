"""Checks after a successful migration: the data is as valid as before, and the application works with it."""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg

from lastgood.application import health
from lastgood.application.service import HookFailed
from lastgood.command.deploy.course import Course
from lastgood.command.deploy.keys import broken_since
from lastgood.command.deploy.report import CommandReport, unseen_of, verdict_of, worse_of
from lastgood.command.validate import validate
from lastgood.command.validate.validate import ValidationVerdict
from lastgood.errors import Failed
from lastgood.events import Progress, StageDone, StageFailed, StageStarted
from lastgood.facts import MigrationFacts
from lastgood.facts.of_database import migration_of
from lastgood.postgres.remaining_sessions import find
from lastgood.text.units import counted

SETTLED_SECONDS = 2.0


def problem(course: Course) -> str:
    """Return what is worse than before the migration, empty if nothing. Raises Failed, Interrupted, NotStarted."""
    if exchanged := course.hold.exchanged(course.hold.connection()):
        return exchanged
    course.hold.record_stage("checking")
    _report_open_sessions(course)
    return _migration(course) or _data(course) or _application(course)


def wrong_version(expected: str, now: MigrationFacts | None) -> str:
    """Return why the newest migration is not the expected one; empty if it is, or none is expected."""
    if not expected or (now is not None and now.version == expected):
        return ""
    if now is None:
        return f'the migration version "{expected}" did not appear: there is no migrations table'
    newest = f'its newest version is "{now.version}"' if now.version is not None else "it is empty"
    return f'the migration version "{expected}" did not appear in {now.table}: {newest}'


def _migration(course: Course) -> str:
    """Return why the expected version is missing. Remark on accepted errors of the migration, and on a migrations table
    without a new row."""
    command: CommandReport | None = course.found.get("command")
    if command is not None and command.allowed:
        course.remark(f"errors of the migration were accepted ({command.allowed}): {command.errors[0]}")
    manifest = course.point.manifest if course.point is not None else None
    then = manifest.facts.migration if manifest is not None else None
    expected = course.request.expect_version
    if then is None and not expected:
        return ""
    with suppress(psycopg.Error), course.hold.target.connect(application_name="lastgood inspects") as connection:
        now = migration_of(connection)
        if problem := wrong_version(expected, now):
            return problem
        if then is None or expected:
            return ""
        if now is not None and (now.table, now.version, now.applied) == (then.table, then.version, then.applied):
            newest = f'the newest version is still "{now.version}"' if now.version is not None else "it is empty"
            course.remark(f"the migration recorded nothing in {now.table}: {newest}")
        return ""
    return f'the migration version "{expected}" could not be read' if expected else ""


def _report_open_sessions(course: Course) -> None:
    """Remark on sessions that outlive the migration: work may continue in them. Some tools close theirs with a
    delay."""
    assert course.trace is not None
    deadline = time.monotonic() + SETTLED_SECONDS
    while left := find(course.hold.connection(), course.hold.oid, course.trace, course.seen, anywhere=True):
        if time.monotonic() > deadline:
            course.remark(
                f"the migration ended, but left {counted(len(left), 'session')} open: " + ", ".join(map(str, left[:5]))
            )
            return
        time.sleep(0.1)  # the server does not announce the end of a session


def _data(course: Course) -> str:
    request, before = course.request, course.before
    if before is None or request.settings.check == "none":
        return ""
    with course.timed("after"):
        after = _validated(course)
        if unseen_of(after, before):
            after = _validated(course)  # the lock of another session may have been short
    course.found["after"] = after.summary
    vanished, unseen = broken_since(
        course.hold.target, course.keys, before, request.validation.ignore, request.validation.time_limit
    )
    for text in unseen:
        course.remark(text)
    worse = (*vanished, *worse_of(after, before))
    course.found["worse"] = worse
    for each in worse:
        if each.outcome != "FAIL":
            course.remark(f"warning that is new or worse since the migration: {each.name}: {each.message}")
    return verdict_of(worse, after, before)


def _validated(course: Course) -> ValidationVerdict:
    """Validate the data. If the connection is lost meanwhile, try once more when it is back."""
    request = course.request
    assert request.settings.check != "none"
    for last in (False, True):
        try:
            return validate.validate(course.hold.target, request.validation, request.settings.check, course.context)
        except Failed:
            if last:
                raise
            course.hold.connection(course.context.cancelled)
    raise AssertionError("unreachable: the second try returns or raises")


def _application(course: Course) -> str:
    application = course.request.base.application
    if course.stopped:
        course.emit(StageStarted("start", "start the application"))
        began = time.monotonic()
        try:
            course.service.start("after the migration", cancelled=course.context.cancelled)
        except HookFailed as error:
            course.emit(StageFailed("start", time.monotonic() - began, str(error)))
            return f"cannot start the application: {error}"
        course.stopped = False
        course.emit(StageDone("start", time.monotonic() - began))
    stopped = course.request.settings.stop  # the record of another stop is not ours to clear
    if not course.request.settings.application or not application.checked:
        if stopped:
            course.service.forget()
        return ""
    course.emit(StageStarted("checks", "check the health of the application"))
    began = time.monotonic()
    with course.timed("application"):
        failure = _unhealthy(course)
    if failure:
        course.emit(StageFailed("checks", time.monotonic() - began, failure))
        return failure
    if stopped:
        course.service.forget()
    course.emit(StageDone("checks", time.monotonic() - began))
    return ""


def _unhealthy(course: Course) -> str:
    application = course.request.base.application
    if application.health is not None and course.healthy_before is not False:
        result = health.check_health(
            application,
            course.context.cancelled,
            lambda tries, last: course.emit(Progress("checks", tries, None, "tries", detail=last.problem)),
        )
        course.health = result
        course.note("health", **result.model_dump(mode="json"))
        if result.problem:
            return f"health check {result.url} of the application failed: {result.problem}"
    if application.hooks.smoke is not None:
        try:
            course.service.hook("smoke", "after the migration", course.context.cancelled)
        except HookFailed as error:
            return f"the smoke test of the application failed: {error}"
    return ""
