"""Notifications about the restore of a missing database."""

from __future__ import annotations

from pathlib import Path

from lastgood.command.recover.reinstate import ReinstateReport
from lastgood.screen.news import Story
from lastgood.text import units


def reinstating(live: str, point: str) -> Story:
    """The notification before a missing database is restored under its own name."""
    return Story(
        events=frozenset({"start"}),
        title="restoring the missing database",
        happened=f'"{live}" does not exist; it is being restored from {Path(point).name}.',
    )


def reinstated(report: ReinstateReport) -> Story:
    """The notification after a missing database was restored."""
    return Story(
        events=frozenset({"success"}),
        title="missing database restored",
        happened=f'"{report.live}" was missing and is restored from {Path(report.point).name}; every table is proved.',
        state=f'"{report.live}" is open.',
        lost="Everything written after the restore point was made.",
        next="; ".join(report.remarks),
        figures=(("Duration", units.duration(report.seconds)),),
    )
