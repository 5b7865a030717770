"""The fence: writers wait, readers continue.

One session holds SHARE locks on every table of the live database (``postgres.table_locks``). The swap terminates the
waiting sessions, which reconnect to the restored database. The locks are released only after every other session was
terminated inside the swap.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import psycopg

from lastgood import fault
from lastgood.events import Caution
from lastgood.plan.plan import KEPT, PlannedStep, Request
from lastgood.postgres import database
from lastgood.postgres.pressure.activity import writes
from lastgood.postgres.table_locks import Guard, lock_all, lock_counts
from lastgood.run.context import Run
from lastgood.run.report import FenceReport
from lastgood.run.runner import Result
from lastgood.text.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced(Result):
    """The fence against writes: locks on ``tables`` since ``began``, or only during the swap; ``baseline`` is then the
    server's counter of written rows at the start."""

    kind: Literal["table locks", "at-swap"]
    tables: int = 0
    began: float | None = None
    baseline: int = 0

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"tables": self.tables} if self.kind == "table locks" else {"baseline": self.baseline}


class Fence:
    """Block writes with ``--fence now``. With ``at-swap`` the swap is the fence, and this step only records the counter
    of writes."""

    name = "fence"
    title = "keep writers out of the live database (readers continue)"
    commits = False

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan: when writers wait."""
        if request.fence == "now":
            return PlannedStep(name=self.name, title="Block writes", effect="writers wait, readers continue")
        return PlannedStep(
            name=self.name,
            title="Let writers continue until the switch",
            effect=f"rows written until then are in the {KEPT[request.way or 'by-name']}",
        )

    def do(self, run: Run) -> Fenced:
        if run.plan.fence == "at-swap":
            baseline = writes(run.maintenance, run.plan.live_oid)
            return Fenced(kind="at-swap", baseline=baseline, detail="at the switch: writers continue until then")
        connection = run.target.connect(autocommit=False, application_name=f"lastgood fence {run.plan.run}")
        run.fence_connection = connection
        began = time.monotonic()
        live = database.describe(run.maintenance, run.plan.live)
        tables = lock_all(connection, run.maintenance, live, run.context)
        guarding = partial(run.connected, run.plan.maintenance, "guards the fence of")
        Guard(guarding, live.oid, connection, run.context, over=run.fence_over, using=run.fence_used).start()
        fault.point("fence.after_lock")
        return Fenced(
            kind="table locks", tables=tables, began=began, detail=f"{counted(tables, 'table')} locked against writes"
        )

    def undo(self, run: Run) -> None:
        release(run)

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        # The locks were released with the session of the stopped process.
        return False


class FenceInPlace(Fence):
    """The switch in place is the fence."""

    title = "let writers continue until the switch"


def release(run: Run) -> None:
    """Release the locks. May be called twice, and from another thread."""
    run.fence_over.set()
    connection, run.fence_connection = run.fence_connection, None
    if connection is not None:
        with run.fence_used, suppress(psycopg.Error):  # an ended session holds no locks
            connection.close()


def verify(run: Run) -> FenceReport | None:
    """Verify, right before the swap, that one session has held the locks on every table since the start. None with
    ``--fence at-swap``: writes are counted after it.

    A broken fence causes a caution but does not stop the run, because the kept database has the writes.
    """
    fenced, connection = run.result(Fenced), run.fence_connection
    if fenced is None or fenced.kind != "table locks":
        return None
    try:
        if connection is None:
            raise psycopg.OperationalError("the session of the fence ended")
        with run.fence_used:
            locked, there, large_objects = lock_counts(connection)
    except psycopg.Error as error:
        run.emit(
            Caution("the fence was lost during the run: writes may have been made since; the kept database has them")
        )
        return FenceReport(
            kind=fenced.kind, proof=f"the session that held the locks was lost: {error}", writes_after=None
        )
    seconds = time.monotonic() - (fenced.began or 0.0)
    proof = (
        f"SHARE locks on {locked} of {counted(there, 'table')}, held by one session for {seconds:.1f} s until the swap"
    )
    if large_objects:
        proof += "; large objects cannot be locked"
        run.emit(Caution("large objects may have been written despite the fence; the kept database has these writes"))
    if locked != there:
        run.emit(Caution(f"the kept database has {counted(there - locked, 'table')} that appeared despite the fence"))
    return FenceReport(kind=fenced.kind, proof=proof, writes_after=0 if locked == there and not large_objects else None)
