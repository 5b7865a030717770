"""What people elsewhere are told of a database that was gone and is brought back."""

from __future__ import annotations

from pathlib import Path

from lastgood.command.recover.reinstate import ReinstateReport
from lastgood.screen.news import Story
from lastgood.text import units


def reinstating(live: str, point: str) -> Story:
    """A database that is gone is about to be restored under its own name."""
    return Story(
        events=frozenset({"start"}),
        title="bringing the database back",
        happened=f'"{live}" is gone: it is restored from {Path(point).name}.',
    )


def reinstated(report: ReinstateReport) -> Story:
    """A database that was gone is there again."""
    return Story(
        events=frozenset({"success"}),
        title="database brought back",
        happened=f'"{report.live}" was gone, and is there again: {Path(report.point).name}, every table proved.',
        state=f'"{report.live}" is open.',
        lost="What was written after the restore point was made.",
        next="; ".join(report.remarks),
        figures=(("Took", units.duration(report.seconds)),),
    )
