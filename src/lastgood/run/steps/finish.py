"""The deferred work, after the reopening, while the application runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from lastgood.errors import Refused
from lastgood.events import Emit, reported
from lastgood.journal import Journal, recording
from lastgood.load.deferred import remainder
from lastgood.load.deferred.work import Finished, finish, in_service
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres import clock, database
from lastgood.postgres.lock import unlock
from lastgood.postgres.mark import marked
from lastgood.process import interrupts
from lastgood.run.context import Run
from lastgood.run.runner import Result
from lastgood.run.steps.swap import Switched


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Result):
    """The deferred work, completed."""

    finished: Finished


class Finish:
    """Complete the deferred work. In any case the live database is the restored one, complete in its data and open."""

    name = "finish"
    title = "finish the deferred work while the application runs"
    commits = False

    def wanted(self, run: Run) -> bool:
        """Whether work is deferred."""
        return run.plan.reopen_when == "usable"

    def planned(self, request: Request) -> PlannedStep | None:
        """Describe this step in the plan where work is deferred."""
        if request.reopen_when != "usable":
            return None
        return PlannedStep(
            name=self.name,
            title="Finish the deferred work",
            effect="the application runs meanwhile; undo stays possible",
        )

    def do(self, run: Run) -> Completed:
        switched = run.result(Switched)
        oid = switched.oid if switched is not None else database.describe(run.maintenance, run.plan.live).oid
        # The work may take hours, and an undo must be possible meanwhile. It has a lock of its own.
        unlock(run.maintenance)
        done = finish(run.target, run.plan.run, run.context, oid=oid, record=run.journal)
        return Completed(finished=done, detail=str(done))

    def undo(self, run: Run) -> None:
        """Do nothing: after the commit point, and partial work does no harm."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # ``finish`` itself skips complete tasks


def left(request: Request) -> str | None:
    """Return the run with deferred work in the live database that ``request`` resumes, if any. Raises Refused."""
    live = request.target.dbname
    with suppress(psycopg.Error), request.target.connect() as connection:
        found = remainder.runs(connection)
        if request.run is not None:
            return request.run if request.run in found else None
        with database.connect_maintenance(request.target, live) as maintenance:
            if any(mark.role == "shadow" and mark.live == live for _, mark in marked(maintenance)):
                return None
        if len(found) > 1:
            raise Refused(
                f'cannot choose a run of "{live}": {", ".join(found)} have deferred work',
                hint="Name one: lastgood resume RUN",
                state=f'"{live}" is open.',
            )
        return found[0] if found else None
    return None


def resume(request: Request, run: str, emit: Emit) -> Finished:
    """Complete the deferred work of ``run``; only the server is needed. Raises Refused, Stopped."""
    live = request.target.dbname
    state = f'"{live}" is the restored database, open and complete in its data.'
    journal = Journal.find(request.state, run) or Journal.create(request.state, run)
    stop = interrupts.Stop()
    with database.connect_maintenance(request.target, live) as maintenance:
        oid, skew = database.describe(maintenance, live).oid, clock.skew(maintenance)
    hint = f"To continue: lastgood resume {run}"
    recording.continued(journal, "resumed", skew=skew, kind="finish", live=live)
    with recording.recording(journal, emit) as emit, in_service(run, hint, state), interrupts.stopping(stop):
        context = request.context(emit, stop.is_set)
        with reported(emit, Finish.name, Finish.title) as stage:
            done = finish(request.target, run, context, oid=oid, record=journal)
            stage.detail = str(done)
        recording.ended(journal, "done", finished=str(done))
    return done
