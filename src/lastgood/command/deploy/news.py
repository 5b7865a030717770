"""What people elsewhere are told of a deployment."""

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
    """It begins to work. Of the migration's command its program alone is told: the rest may hold secrets."""
    live, program = target.dbname, command[0]
    called = f' "{label}"' if label else ""
    return Story(
        events=frozenset({"start"}),
        title="deployment started",
        happened=f'The migration{called} of "{live}" begins, with {Path(program).name}.',
        state="Nothing has been changed so far: a restore point is made first.",
        next="Nothing to do. lastgood status shows whether it is at work.",
    )


def deployed(report: DeployReport) -> Story:
    """It went well."""
    return Story(
        events=frozenset({"success"}),
        title="deployed",
        happened=f'"{report.live}" is migrated, and no worse than before.',
        state=f'"{report.live}" is open.',
        next=f"To go back later: lastgood rollback {Path(report.point).name}",
        figures=_figures(report),
    )


def failed(error: LastgoodError, report: DeployReport) -> Story:
    """It failed, and what became of it."""
    told = replace(news.failed(error, "deploy", report.live), figures=_figures(report))
    if report.loss and report.kept is not None:
        return replace(told, lost=news.lost(report.loss, report.kept))
    return told


def _figures(report: DeployReport) -> tuple[tuple[str, str], ...]:
    took = units.duration(report.seconds["total"])
    return (("Label", report.label), ("Restore point", Path(report.point).name), ("Took", took))
