"""``lastgood deploy``: a migration that can be rolled back.

    hold ─ validate ─ restore point ─ plan of the way back ─ mark ─ MIGRATE ─ validate ─ checks ─ settle
                                                                └ any failure: end its sessions ─ compare ┐
                                                                       nothing left ◄─ or ─ roll back ◄───┘

The rollback is planned, and refused if impossible, before the migration begins. The mark is on the server: after a
kill, any machine can read the stage of the deployment and its restore point.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import psycopg

from lastgood.command.deploy import after, before, migration
from lastgood.command.deploy.changes import STAGE as STAGE_OF_CHANGES
from lastgood.command.deploy.changes import changes
from lastgood.command.deploy.course import Course, DeployRequest, words
from lastgood.command.deploy.hold import accept, hold
from lastgood.command.deploy.migration import STAGE, MigrationCommand, Watcher
from lastgood.command.deploy.report import DeployReport, TrialReport
from lastgood.command.deploy.taken_back import taken_back
from lastgood.command.deploy.trial import trial
from lastgood.errors import LastgoodError
from lastgood.events import Caution, Emit, StageDone, StageFailed, StageStarted, reported, silent
from lastgood.journal import recording
from lastgood.journal.reader import SESSIONS_ENDED
from lastgood.postgres import clock, transactions
from lastgood.process import interrupts

__all__ = ["DeployReport", "DeployRequest", "TrialReport", "accept", "deploy", "trial"]


def deploy(
    request: DeployRequest, emit: Emit = silent, ended: Callable[[DeployReport], None] = lambda report: None
) -> DeployReport:
    """Run the migration; return when the live database is migrated and passed the checks.

    Raises Refused, UsageError, Failed, BadPoint before anything was changed; Failed when the migration failed and left
    no change; TakenBack when the restore point replaced the live database; Interrupted in either of these cases after
    an interrupt; NotTakenBack when the rollback failed. Once the migration was started, ``ended`` receives the report;
    the ``details`` of the error have it as a document.
    """
    migration.checked(request.command)
    stop = interrupts.StopRequest()
    context = request.base.context(emit, stop.is_set)

    def stopping() -> None:
        stop.set()
        emit(Caution("stopping: the migration is terminated and rolled back"))

    def patience() -> None:
        emit(Caution("the migration is being rolled back; interrupting again abandons the rollback"))

    def not_suspended() -> None:
        emit(Caution("cannot suspend a deployment: it holds a lock on the live database; press Ctrl+C to roll it back"))

    with hold(request.base.target, request.settings.wait_for_server, emit) as held:
        journal = recording.begin(
            request.base.state,
            held.run,
            "deploy",
            skew=clock.skew(held.connection()),
            live=held.live,
            label=request.label,
            program=request.command[0],
        )
        with (
            interrupts.on_signal(stopping, mark=stop.mark, after=[patience], suspended=not_suspended),
            recording.recording(journal, emit) as recorded,
        ):
            return _seen_through(Course(request, held, journal, replace(context, emit=recorded), ended))


def _seen_through(course: Course) -> DeployReport:
    command = before.made_ready(course)
    of_migration = True
    try:
        problem = _migrated(course, command)
        if not problem:
            of_migration = False
            problem = after.problem(course)
        if course.context.cancelled() and not problem:
            problem = "the deployment was interrupted"
        if not problem:
            # The commit point: the migration succeeded and is not rolled back from here on.
            course.hold.settle()
            course.note_outcome("deployed")
    except (LastgoodError, psycopg.Error, OSError, KeyboardInterrupt) as error:
        problem = words(error)
    if problem:
        raise taken_back(course, problem, of_migration=of_migration)
    _note_changes(course)
    return course.over("deployed")


def _note_changes(course: Course) -> None:
    """Compare the rows with the restore point. The deployment is done: a failure of this is only a remark."""
    point = course.point
    assert point is not None and point.manifest is not None
    if course.comparing.level == "none":
        return
    try:
        with course.timed("compare"), reported(course.emit, STAGE_OF_CHANGES, "compare with the restore point"):
            facts = point.manifest.facts
            course.found["tables"] = changes(course.hold.target, point, facts, course.comparing, course.context)
    except LastgoodError as error:
        course.remark(f"the changes of the migration could not be counted: {error}")


def _following(course: Course) -> int | None:
    """Return the number of the server's next transaction: `lastgood salvage` tells the migration's rows by it. None if
    the server does not answer; a deployment does not fail for it."""
    with suppress(LastgoodError, psycopg.Error):
        return transactions.following(course.hold.connection())
    return None


def _migrated(course: Course, command: MigrationCommand) -> str:
    """Run the migration. Return its failure, empty on success."""
    request, hold, emit = course.request, course.hold, course.emit
    assert course.trace is not None
    limit = request.settings.time_limit
    watcher = Watcher(hold.target.at(hold.maintenance), hold.oid, course.trace)
    emit(StageStarted(STAGE, f"run the migration: {command.shown}"))
    course.note("doing", step=STAGE, transaction=_following(course))
    with course.timed(STAGE):
        try:
            outcome = migration.run(command, hold.run, course.journal.path, watcher, course.context, seconds=limit)
        except BaseException:
            course.note(SESSIONS_ENDED, step=STAGE, transaction=_following(course))
            raise
    course.seen = outcome.seen
    course.found["command"] = outcome.report
    course.note("done", step=STAGE, result=outcome.report.model_dump(mode="json"), transaction=_following(course))
    if outcome.problem:
        emit(StageFailed(STAGE, outcome.report.seconds, outcome.problem))
    else:
        emit(StageDone(STAGE, outcome.report.seconds, "status 0"))
    return outcome.problem
