"""The deferred work, after the reopening, while the application runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lastgood.load.deferred.work import Finished, finish
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres import database
from lastgood.postgres.lock import unlock
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
        trusted = run.plan.code is not None and bool(run.plan.code.trusted)
        done = finish(run.target, run.plan.run, run.context, oid=oid, record=run.journal, trusted=trusted)
        return Completed(finished=done, detail=str(done))

    def undo(self, run: Run) -> None:
        """Do nothing: after the commit point, and partial work does no harm."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # ``finish`` itself skips complete tasks
