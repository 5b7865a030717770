"""The list of runs."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from lastgood.command.explain.run import story_of, titles
from lastgood.command.report.chronicle import Chronicle
from lastgood.command.report.document import RunLine, Runs
from lastgood.journal import SENSELESS, Journal
from lastgood.journal.reader import Entry, recorded

# What is not listed unless it is asked for: there may be one an hour.
ONLY_LOOKED = "validate"


def runs(state: Path, kind: str | None = None, limit: int = 20) -> Runs:
    """The newest ``limit`` runs of this machine, of one ``kind`` if one is given, without validations otherwise. A
    journal that says nothing is left out."""
    found: list[RunLine] = []
    undone: dict[str, str] = {}  # what took a run back is newer than it
    # Journals that were begun elsewhere may not say at their beginning what they are of.
    kinds = ("undo", kind, "") if kind is not None else ()
    for journal in Journal.newest(state, *kinds):
        if kind is None and journal.kind == ONLY_LOOKED:
            continue
        line = None
        with suppress(*SENSELESS):
            line = _line(journal)
        if line is None:
            continue
        if line.kind == "undo" and line.outcome in ("done", "switched"):
            undone[line.detail] = line.run
        if kind not in (None, line.kind):
            continue
        if len(found) == limit:
            return Runs(runs=tuple(found), more=True)
        found.append(line.model_copy(update={"undone_by": undone.get(line.run, "")}))
    return Runs(runs=tuple(found), more=False)


def _line(journal: Journal) -> RunLine | None:
    found = recorded(journal)
    if found is None:
        return None
    story, told = story_of(found), Chronicle(found, titles())
    who = next((each for each in found.entries if each.by and each.host), None)
    begun = told.begun
    seconds = (told.ended - begun).total_seconds()
    if len(found.entries) == 1 and found.past:  # a record of a run that has no journal of its own
        seconds = float(found.past["seconds"])
        begun -= timedelta(seconds=seconds)
    return RunLine(
        run=journal.run,
        kind=story.kind,
        begun=begun,
        by=who.by if who is not None else "",
        host=who.host if who is not None else "",
        live=story.live,
        point=found.point or found.named_point,
        outcome=story.outcome,
        status=found.ended.status if found.ended is not None else "",
        seconds=round(seconds, 3),
        detail=_detail(found.first),
    )


def _detail(begun: Entry) -> str:
    """What tells more than the kind: which way maintenance was switched, what a validation found, what is undone."""
    if undoes := begun.plan.get("undoes"):
        return str(undoes)
    return begun.text("action") or begun.text("verdict") or begun.text("into")
