"""After a migration that ended well: whether the data is as sound as before, and the application works with it."""

from __future__ import annotations

import time
from contextlib import suppress

import psycopg

from lastgood.application import health
from lastgood.application.service import HookFailed
from lastgood.command.deploy.course import Course
from lastgood.command.deploy.keys import broken_since
from lastgood.command.deploy.report import CommandReport, Looked, unseen_of, verdict_of, worse_of
from lastgood.command.validate import validate
from lastgood.command.validate.validate import Verdict
from lastgood.errors import Failed
from lastgood.events import Progress, StageDone, StageFailed, StageStarted
from lastgood.facts.of_database import migration_of
from lastgood.postgres.outlived import find
from lastgood.text.units import counted

SETTLED_SECONDS = 2.0


def problem(course: Course) -> str:
    """What is worse than before the migration; empty when nothing is. Raises Failed, Interrupted, NotStarted."""
    if exchanged := course.hold.exchanged(course.hold.connection()):
        return exchanged
    course.hold.say("checking")
    _still_at_work(course)
    _told(course)
    return _data(course) or _application(course)


def _told(course: Course) -> None:
    """What the migration itself gives away: errors that were accepted, and a migrations table without a new row."""
    command: CommandReport | None = course.found.get("command")
    if command is not None and command.allowed:
        course.remark(f"errors of the migration are accepted ({command.allowed}): {command.errors[0]}")
    manifest = course.point.manifest if course.point is not None else None
    then = manifest.facts.migration if manifest is not None else None
    if then is None:
        return
    with suppress(psycopg.Error), course.hold.target.connect(application_name="lastgood inspects") as connection:
        now = migration_of(connection)
        if now is not None and (now.table, now.version, now.applied) == (then.table, then.version, then.applied):
            newest = f'"{now.version}" is still the newest' if now.version is not None else "it is empty"
            course.remark(f"the migration recorded nothing in {now.table}: {newest}")


def _still_at_work(course: Course) -> None:
    """A migration that leaves sessions behind may go on in them; some tools only take a moment to close theirs."""
    assert course.trace is not None
    deadline = time.monotonic() + SETTLED_SECONDS
    while left := find(course.hold.connection(), course.hold.oid, course.trace, course.seen, anywhere=True):
        if time.monotonic() > deadline:
            course.remark(
                f"the migration has ended, and {counted(len(left), 'session')} of it have not: "
                + ", ".join(map(str, left[:5]))
            )
            return
        time.sleep(0.1)  # the end of a session is announced to nobody


def _data(course: Course) -> str:
    wish, before = course.wish, course.before
    if before is None or wish.settings.check == "none":
        return ""
    with course.timed("after"):
        after = _validated(course)
        if unseen_of(after, before):
            after = _validated(course)  # somebody else's lock may have been a short one
    course.found["after"] = Looked.of(after)
    vanished, unseen = broken_since(
        course.hold.target, course.keys, before, wish.validation.ignore, wish.validation.time_limit
    )
    for text in unseen:
        course.remark(text)
    worse = (*vanished, *worse_of(after, before))
    course.found["worse"] = worse
    for each in worse:
        if each.outcome != "FAIL":
            course.remark(f"worse than before the migration, but only a warning: {each.name}: {each.said}")
    return verdict_of(worse, after, before)


def _validated(course: Course) -> Verdict:
    """A server that goes away meanwhile is asked once more when it is back."""
    wish = course.wish
    assert wish.settings.check != "none"
    for last in (False, True):
        try:
            return validate.validate(
                course.hold.target, wish.validation, wish.settings.check, course.emit, course.stop.is_set
            )
        except Failed:
            if last:
                raise
            course.hold.connection(course.stop.is_set)
    raise AssertionError("unreachable: the second try returns or raises")


def _application(course: Course) -> str:
    application = course.wish.request.application
    if course.stopped:
        course.emit(StageStarted("start", "start the application"))
        began = time.monotonic()
        try:
            course.service.start("after the migration", cancelled=course.stop.is_set)
        except HookFailed as error:
            course.emit(StageFailed("start", time.monotonic() - began, str(error)))
            return f"the application could not be started: {error}"
        course.stopped = False
        course.emit(StageDone("start", time.monotonic() - began))
    stopped = course.wish.settings.stop  # what others have stopped is theirs to remember
    if not course.wish.settings.application or not application.checked:
        if stopped:
            course.service.forget()
        return ""
    course.emit(StageStarted("checks", "ask the application whether it works"))
    began = time.monotonic()
    with course.timed("application"):
        said = _asked(course)
    if said:
        course.emit(StageFailed("checks", time.monotonic() - began, said))
        return said
    if stopped:
        course.service.forget()
    course.emit(StageDone("checks", time.monotonic() - began))
    return ""


def _asked(course: Course) -> str:
    application = course.wish.request.application
    if application.health is not None and course.healthy_before is not False:
        asked = health.ask(
            application,
            course.stop.is_set,
            lambda tries, last: course.emit(Progress("checks", tries, None, "tries", detail=last.problem)),
        )
        course.health = asked
        course.note("health", **asked.model_dump(mode="json"))
        if asked.problem:
            return f"the application does not work: its health check {asked.url} failed: {asked.problem}"
    if application.hooks.smoke is not None:
        try:
            course.service.hook("smoke", "after the migration", course.stop.is_set)
        except HookFailed as error:
            return f"the application does not work: {error}"
    return ""
