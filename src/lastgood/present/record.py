"""The record of a run for people: the same parts on a terminal, as Markdown and as an HTML page."""

from __future__ import annotations

import io

from lastgood import amounts
from lastgood.present import blocks, timeline
from lastgood.present.blocks import Picture, as_markdown
from lastgood.present.record_parts import PICTURE, checklist, outcome, parts, title
from lastgood.present.screen import Column, Screen
from lastgood.present.timeline import Bar
from lastgood.procedure.record.document import RunRecord, Runs


def show_runs(screen: Screen, runs: Runs, folder: str) -> None:
    """The list of runs, the newest first. When each began its name tells."""
    if not runs.runs:
        screen.say(f'No runs: no journal in "{folder}" tells of one.')
        return
    screen.table(
        (
            Column("run"),
            Column("kind"),
            Column("by", fold=True),
            Column("live", fold=True),
            Column("took", right=True),
            Column("how it ended", fold=True),
        ),
        [
            (
                each.run,
                f"{each.kind} {each.detail}" if each.detail and each.kind in ("maintenance", "validate") else each.kind,
                f"{each.by} on {each.host}" if each.by else "not known",
                each.live,
                amounts.duration(each.seconds),
                f"{outcome(each)}, undone since" if each.undone_by else outcome(each),
            )
            for each in runs.runs
        ],
    )
    if runs.more:
        screen.say("and older ones; --limit shows more", first="  ", indent=2)
    screen.heading(f"To read one: lastgood report {runs.runs[0].run}")


def show(screen: Screen, record: RunRecord) -> None:
    """On a terminal."""
    blocks.show(screen, parts(record))


def show_checklist(screen: Screen, record: RunRecord) -> None:
    """What is still to be done after a run."""
    screen.say(title(record), style="bold")
    if record.after is not None:
        blocks.show(screen, checklist(record.run, record.after))


def text_of(record: RunRecord) -> str:
    """As on a terminal, in lines of any length."""
    lines = io.StringIO()
    blocks.show(Screen(stdout=lines, no_color=True), parts(record))
    return lines.getvalue()


def markdown_of(record: RunRecord) -> str:
    """As Markdown; the picture of the phases is for the page alone."""
    return as_markdown(each for each in parts(record) if not isinstance(each, Picture))


def page_of(record: RunRecord) -> str:
    """As one HTML page."""
    from lastgood.present.page import page  # what reads Markdown is a tenth of all that would be loaded

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
