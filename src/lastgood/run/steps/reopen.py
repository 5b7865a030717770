"""After the swap: verify that the live name is that of the restored database, and that logins work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from lastgood.errors import Stopped
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres.pressure.activity import writes
from lastgood.run.context import Run
from lastgood.run.report import FenceReport
from lastgood.run.runner import Result
from lastgood.run.steps.fence import Fenced
from lastgood.run.steps.swap import Switched

PATIENCE_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened(Result):
    """The live name is that of the database ``oid``. ``fence``: the writes before the swap with ``--fence at-swap``;
    None with locks. ``left``: what could not be completed after an exchange in place, in words."""

    oid: int
    fence: FenceReport | None
    left: tuple[str, ...] = ()

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"oid": self.oid}


class Reopen:
    """Log in like any client, and compare the database's OID with the shadow's."""

    name = "reopen"
    title = "verify a login under the live name"
    commits = False

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan."""
        return PlannedStep(name=self.name, title="Verify a login under the live name", effect="undo stays possible")

    def do(self, run: Run) -> Reopened:
        fence, switched = self._written_meanwhile(run), run.result(Switched)
        found = self._answers(run)
        if found == run.plan.live_oid or (switched is not None and switched.oid != found):
            raise Stopped(
                f'cannot confirm the switch: "{run.plan.live}" is not the database that was restored',
                hint="Run lastgood status, then lastgood undo if the data is not what you expect.",
                state=f'The name "{run.plan.live}" was switched; the previous database is kept as "{run.plan.kept}".',
            )
        return Reopened(oid=found, fence=fence, detail=f'"{run.plan.live}" answers')

    def _written_meanwhile(self, run: Run) -> FenceReport | None:
        fenced = run.result(Fenced)
        if fenced is None or fenced.kind != "at-swap":
            return None
        written = max(0, writes(run.maintenance, run.plan.live_oid) - fenced.baseline)
        proof = (
            "every session of the old database was terminated inside the swap; "
            f"at most {written} rows were written since the run began, by the server's counters, "
            "which include system catalogs"
        )
        return FenceReport(kind=fenced.kind, proof=proof, writes_after=written)

    def _answers(self, run: Run) -> int:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with run.connected(run.plan.live, "verify") as live:
                    row = live.execute(
                        "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = current_database()"
                    ).fetchone()
                return int(row[0]) if row is not None else 0
            except psycopg.OperationalError as error:
                # A login that queued behind the swap is refused once with 3D000.
                if time.monotonic() > deadline:
                    raise Stopped(
                        f'cannot log in to "{run.plan.live}" after the switch: {error}',
                        hint=f"Fix the cause, then run: lastgood resume {run.plan.run}; or lastgood undo",
                        state=f'"{run.plan.live}" is the restored database; the previous one is "{run.plan.kept}".',
                    ) from error
            time.sleep(0.1)  # there is no event for restored logins

    def undo(self, run: Run) -> None:
        """Do nothing: it only reads."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False
