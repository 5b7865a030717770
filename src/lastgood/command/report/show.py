"""The record of a run for people: the same blocks on a terminal, as Markdown and as an HTML page."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from lastgood.command.report.document import RunLine, RunRecord, Runs
from lastgood.command.report.parts import PICTURE, checklist, outcome, parts, title
from lastgood.screen import blocks, timeline
from lastgood.screen.blocks import Picture, as_markdown
from lastgood.screen.screen import Screen, TableColumn
from lastgood.screen.timeline import Bar
from lastgood.text import units

# The list has all its columns on terminals of this width.
WIDE = 130


def show_runs(screen: Screen, runs: Runs, folder: str) -> None:
    """Print the list of runs, the newest first."""
    if not runs.runs:
        screen.say(f'No runs in "{folder}".')
        return
    columns: list[tuple[TableColumn, Callable[[RunLine], str]]] = [
        (TableColumn("run"), lambda each: each.run),
        (TableColumn("kind"), _kind),
        (TableColumn("begun"), lambda each: units.moment(each.begun)),
        (TableColumn("by", fold=True), lambda each: f"{each.by} on {each.host}" if each.by else "unknown"),
        (TableColumn("live", fold=True), lambda each: each.live),
        (TableColumn("point", fold=True), lambda each: Path(each.point).name),
        (TableColumn("took", right=True), lambda each: units.duration(each.seconds)),
        (TableColumn("outcome", fold=True), _outcome),
    ]
    if screen.out.width < WIDE:
        # The name of a run has its start time.
        columns = [each for each in columns if each[0].title not in ("begun", "point")]
    screen.table([column for column, _ in columns], [[cell(each) for _, cell in columns] for each in runs.runs])
    if runs.more:
        screen.say("and older ones; --limit shows more", first="  ", indent=2)
    screen.heading(f"To show one: lastgood report {runs.runs[0].run}")


def _kind(each: RunLine) -> str:
    return f"{each.kind} {each.detail}" if each.detail and each.kind in ("maintenance", "validate") else each.kind


def _outcome(each: RunLine) -> str:
    return f"{outcome(each)}, later undone" if each.undone_by else outcome(each)


def show(screen: Screen, record: RunRecord) -> None:
    """Print the record on a terminal."""
    blocks.show(screen, parts(record))


def show_checklist(screen: Screen, record: RunRecord) -> None:
    """Print the checklist after a run."""
    screen.say(title(record), style="bold")
    if record.after is not None:
        blocks.show(screen, checklist(record.run, record.after))


def text_of(record: RunRecord) -> str:
    """Render the record as on a terminal, without wrapping."""
    lines = io.StringIO()
    blocks.show(Screen(stdout=lines, no_color=True), parts(record))
    return lines.getvalue()


def markdown_of(record: RunRecord) -> str:
    """Render the record as Markdown, without the picture of the phases, which only the page has."""
    return as_markdown(each for each in parts(record) if not isinstance(each, Picture))


def page_of(record: RunRecord) -> str:
    """Render the record as one HTML page."""
    from lastgood.screen.page import page  # imported only for pages, because it is slow

    return page(title(record), as_markdown(parts(record)), {PICTURE: _picture(record)})


def _picture(record: RunRecord) -> str:
    bars = [
        Bar(
            each.title,
            max(0.0, (each.begun - record.begun).total_seconds()),
            max(0.0, ((each.ended or record.ended) - record.begun).total_seconds()),
            "done" if each.outcome == "done" else "failed",
        )
        for each in record.phases
    ]
    return timeline.timeline(f"Phases of {record.run}", bars)
