"""The work that a run leaves after its switch: deferred work, or after an exchange in place foreign keys and checks to
validate, materialized views to refresh and generated columns to compare.

The server has the lists, so any machine can do it, without the restore point."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from lastgood.errors import Refused
from lastgood.events import Caution, Emit, reported
from lastgood.in_place import marks
from lastgood.in_place.exchange import completion
from lastgood.in_place.kept import left_by_runs
from lastgood.journal import Journal, recording
from lastgood.load.deferred import remainder
from lastgood.load.deferred.work import Finished, finish, in_service
from lastgood.plan.plan import Request
from lastgood.postgres import clock, database
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.process import interrupts
from lastgood.run.steps.finish import Finish


@dataclass(frozen=True, slots=True)
class Remaining:
    """The work that a run left in the live database. ``in_place``: after an exchange in place."""

    run: str
    in_place: bool = False


def left(request: Request) -> Remaining | None:
    """Return the work that ``request`` resumes, if any. Raises Refused."""
    live = request.target.dbname
    with suppress(psycopg.Error), request.target.connect() as connection:
        found = [Remaining(run) for run in remainder.runs(connection)]
        found += [Remaining(each.run, in_place=True) for each in marks.rest(connection)]
        if request.run is not None:
            return next((each for each in found if each.run == request.run), None)
        if not found:
            return None
        with database.connect_maintenance(request.target, live) as maintenance:
            if any(mark.role == "shadow" for _, mark in left_by_runs(maintenance, request.target)):
                return None
        if len(found) > 1:
            raise Refused(
                f'cannot choose a run of "{live}": {", ".join(each.run for each in found)} have work left to do',
                hint="Name one: lastgood resume RUN",
                state=f'"{live}" is open.',
            )
        return found[0]
    return None


def is_checked(request: Request, run: str, emit: Emit) -> bool:
    """Return whether the rollback ``run`` would have checked and watched the application after its switch, and still
    can: the plan is made again from its restore point. Emits Caution where it cannot."""
    application = request.application
    watched = application.watch is not None and application.watch.length > 0
    if not (application.checked or watched):
        return False
    with request.target.connect() as connection:
        points = {each.mark.point for each in marks.marked(connection, run=run, role="kept")}
    if not points:
        return False  # an undo, which checks nothing
    (point,) = points
    if Path(point).exists():
        return True
    emit(
        Caution(
            f'health checks and watch are skipped: the restore point "{point}" is not on this machine; check the '
            "application yourself"
        )
    )
    return False


def resume(request: Request, remaining: Remaining, emit: Emit) -> Finished:
    """Do the work; only the server is needed. Raises Refused, Stopped."""
    live, run = request.target.dbname, remaining.run
    with ExitStack() as stack:
        maintenance = stack.enter_context(database.connect_maintenance(request.target, live))
        oid, skew = database.describe(maintenance, live).oid, clock.skew(maintenance)
        state = f'"{live}" is in service with all its rows.'
        if remaining.in_place:
            lock_live(maintenance, live, read_nothing)
        else:
            stack.close()  # deferred work may take hours, and has a lock of its own
        journal = Journal.find(request.state, run) or Journal.create(request.state, run)
        recording.record_continuation(journal, "resumed", skew=skew, kind="finish", live=live)
        title = "finish what the switch left to do" if remaining.in_place else Finish.title
        with (
            recording.recording(journal, emit) as emit,
            in_service(run, f"To continue: lastgood resume {run}", state),
            reported(emit, Finish.name, title) as stage,
        ):
            done = _complete(request, run, emit) if remaining.in_place else _finish(request, run, oid, journal, emit)
            stage.detail = str(done)
        recording.write_end(journal, "done", finished=str(done))
    return done


def _finish(request: Request, run: str, oid: int, journal: Journal, emit: Emit) -> Finished:
    stop = interrupts.StopRequest()
    with interrupts.stop_on_signal(stop):
        context, trusted = request.context(emit, stop.is_set), bool(request.code.trusted)
        return finish(request.target, run, context, oid=oid, record=journal, trusted=trusted)


def _complete(request: Request, run: str, emit: Emit) -> Finished:
    with request.target.connect(application_name=f"lastgood finish {run}") as connection:
        keys = sum(len(each.foreign_keys) for each in marks.rest(connection, run))
        failed = list(completion.complete(connection, run))
    for note in failed:
        emit(Caution(note))
    failed_keys = sum(each.startswith(completion.FOREIGN_KEY) for each in failed)
    return Finished(indexes=0, foreign_keys=keys - failed_keys, analyzed=0, gone=())
