"""The emergency backup: a restore point of the live database as it is now, broken or not.

If the live database cannot be read, an override skips the backup: the replaced database itself is kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from lastgood.checklist import BACKUP
from lastgood.errors import Failed, continued
from lastgood.events import Caution
from lastgood.journal.reader import EMERGENCY
from lastgood.load import costs
from lastgood.load.costs import Effort, Spent
from lastgood.plan.plan import PlannedStep, Request
from lastgood.points import dump_point
from lastgood.run.context import Run
from lastgood.run.runner import Result

GO_ON = "To continue without a backup: --override emergency_backup --reason TEXT; the replaced database itself is kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class BackedUp(Result):
    """The emergency backup. ``path`` is None if an override skipped it; ``overridden`` is then the reason."""

    path: Path | None = None
    overridden: str = ""

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"path": str(self.path)} if self.path is not None else {"overridden": self.overridden}


class Emergency:
    """Make and verify the backup, in parallel with the build, unless overridden. Only an explicit prune removes it."""

    name = EMERGENCY
    title = "back up the live database as it is now"
    commits = False

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan, also if an override skips the backup."""
        if request.skips_backup:
            return PlannedStep(name=self.name, title="Skip the emergency backup", effect="by override")
        return PlannedStep(
            name=self.name, title="Back up the live database as it is now", effect="in parallel with the next step"
        )

    def do(self, run: Run) -> BackedUp:
        override = run.plan.checklist.override(BACKUP)
        if override is not None:
            text = f"emergency backup skipped: overridden by {override.by} ({override.reason})"
            replaced = "objects themselves are" if run.plan.way == "in-place" else "database itself is"
            run.emit(Caution(f'{text}; the replaced {replaced} kept as "{run.plan.kept}"'))
            return BackedUp(overridden=override.reason, detail="skipped by override")
        began = time.monotonic()
        try:
            point = dump_point.take(
                run.target,
                run.prepared.request.store,
                label="emergency",
                kind="emergency",
                context=run.context,
            )
        except Failed as error:
            error.hint = continued(error.hint, GO_ON)
            raise
        _record_duration(run, time.monotonic() - began)
        return BackedUp(path=point.path, detail=f"{point.path.name}, verified")

    def undo(self, run: Run) -> None:
        """Do nothing: a complete backup is kept as a restore point, an incomplete one was removed."""

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        return False  # writes were possible since: make another backup of the database to be replaced


def _record_duration(run: Run, seconds: float) -> None:
    """Record the duration for the estimate of the next plan."""
    size = run.plan.live_bytes
    with suppress(psycopg.Error):  # the next use of the connection reports the error
        memory = costs.place(run.prepared.request.state, run.maintenance)
        expected = size * costs.read(memory).costs.backup_byte
        costs.teach(memory, {Effort.BACKUP: Spent(seconds, expected)}, size)
