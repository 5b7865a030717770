"""What a committed switch in place left to do: foreign keys and checks to validate, materialized views to
refresh, generated columns to compare.

The marks of kept schemas list it, so any machine can do it, without the restore point."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from lastgood.errors import Refused
from lastgood.events import Caution, Emit, reported
from lastgood.in_place import completion, marks
from lastgood.in_place.kept import left_by_runs
from lastgood.journal import Journal, recording
from lastgood.load.deferred.work import Finished, in_service
from lastgood.plan.plan import Request
from lastgood.postgres import clock, database
from lastgood.postgres.lock import lock_live, nothing

_TITLE = "finish what the switch left to do"


def left(request: Request) -> str | None:
    """Return the run with such work that ``request`` resumes, if any. Raises Refused."""
    live = request.target.dbname
    with suppress(psycopg.Error), request.target.connect() as connection:
        found = [each.run for each in marks.rest(connection)]
        if request.run is not None:
            return request.run if request.run in found else None
        if not found:
            return None
        with database.connect_maintenance(request.target, live) as maintenance:
            if any(mark.role == "shadow" for _, mark in left_by_runs(maintenance, request.target)):
                return None
        if len(found) > 1:
            raise Refused(
                f'cannot choose a run of "{live}": {", ".join(found)} have foreign keys to validate',
                hint="Name one: lastgood resume RUN",
                state=f'"{live}" is open.',
            )
        return found[0]
    return None


def resume(request: Request, run: str, emit: Emit) -> Finished:
    """Do what the switch of ``run`` left to do. Raises Refused, Stopped."""
    live = request.target.dbname
    hint, state = f"Run: lastgood resume {run} to continue.", f'"{live}" is open and complete in its data.'
    with database.connect_maintenance(request.target, live) as maintenance:
        lock_live(maintenance, live, nothing)
        journal = Journal.find(request.state, run) or Journal.create(request.state, run)
        recording.continued(journal, "resumed", skew=clock.skew(maintenance), kind="finish", live=live)
        with (
            recording.recording(journal, emit) as emit,
            in_service(run, hint, state),
            request.target.connect(application_name=f"lastgood finish {run}") as connection,
            reported(emit, "finish", _TITLE) as stage,
        ):
            keys = sum(len(each.foreign_keys) for each in marks.rest(connection, run))
            failed = list(completion.complete(connection, run))
            for note in failed:
                emit(Caution(note))
            done = Finished(indexes=0, foreign_keys=keys - len(failed), analyzed=0, gone=())
            stage.detail = str(done)
        recording.ended(journal, "done", finished=str(done))
    return done
