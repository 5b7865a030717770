"""Notifications about a deployment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lastgood.command.deploy.deploy import DeployReport
from lastgood.errors import LastgoodError
from lastgood.postgres.server import Target
from lastgood.screen import news
from lastgood.screen.news import Story
from lastgood.text import units


def begun(target: Target, label: str, command: Sequence[str]) -> Story:
    """The notification at the start. It names only the program of the migration: its arguments may hold secrets."""
    live, program = target.dbname, command[0]
    called = f' "{label}"' if label else ""
    return Story(
        events=frozenset({"start"}),
        title="deployment started",
        happened=f'Migration{called} of "{live}" is starting with {Path(program).name}.',
        state="Nothing was changed yet; a restore point is made first.",
        next="No action needed. lastgood status shows the progress.",
    )


def deployed(report: DeployReport) -> Story:
    """The notification of a success."""
    return Story(
        events=frozenset({"success"}),
        title="deployed",
        happened=f'"{report.live}" is migrated and passed the checks.',
        state=f'"{report.live}" is open.',
        next=f"To roll back later: lastgood rollback {Path(report.point).name}",
        figures=_figures(report),
    )


def failed(error: LastgoodError, report: DeployReport) -> Story:
    """The notification of a failure and its outcome."""
    story = replace(news.failed(error, "deploy", report.live), figures=_figures(report))
    if report.loss and report.kept is not None:
        return replace(story, lost=news.lost(report.loss, report.kept))
    return story


def _figures(report: DeployReport) -> tuple[tuple[str, str], ...]:
    took = units.duration(report.seconds["total"])
    return (("Label", report.label), ("Restore point", Path(report.point).name), ("Duration", took))
