"""The emergency backup: the live database as it is now, broken or not, as a restore point of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg

from lastgood.engine import history
from lastgood.engine.costs import Effort, Spent
from lastgood.points import dump_point
from lastgood.steps import Run


class Emergency:
    """Always taken, always verified, beside the build. It goes only by an explicit prune."""

    name = "emergency"
    title = "back up the live database as it is now"
    commits = False

    def do(self, run: Run) -> Mapping[str, Any]:
        began = time.monotonic()
        point = dump_point.take(
            run.target,
            run.prepared.request.store,
            label="emergency",
            kind="emergency",
            emit=run.emit,
            cancelled=run.cancelled,
        )
        run.findings.emergency = point.path
        _teach(run, time.monotonic() - began)
        return {"path": str(point.path), "detail": f"{point.path.name}, verified"}

    def undo(self, run: Run) -> None:
        """Nothing to reverse: a complete backup stays (it is a restore point), an incomplete one removed itself."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # nobody kept writers out since: another one is taken, of what will be replaced


def _teach(run: Run, seconds: float) -> None:
    """For the next plan: how long it takes here, beside a build."""
    size = run.plan.live_bytes
    with suppress(psycopg.Error):  # no reason to stop; what needs that connection will say so
        memory = history.place(run.prepared.request.state, run.maintenance)
        expected = size * history.read(memory).costs.backup_byte
        history.teach(memory, {Effort.BACKUP: Spent(seconds, expected)}, size)
