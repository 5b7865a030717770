"""The list of runs."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from lastgood.command.explain.run import story_of, titles
from lastgood.command.report.chronicle import Chronicle
from lastgood.command.report.document import RunLine, Runs
from lastgood.journal import SENSELESS, Journal

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
    entries = list(journal.replay())
    if not entries:
        return None
    story, told = story_of(journal, entries), Chronicle(entries, titles())
    first = next((each for each in entries if each.get("by") and each.get("host")), {})
    begun = told.begun
    seconds = (told.ended - begun).total_seconds()
    past = entries[-1].get("past")
    if len(entries) == 1 and past:  # a record of a run that has no journal of its own
        seconds = float(past["seconds"])
        begun -= timedelta(seconds=seconds)
    return RunLine(
        run=journal.run,
        kind=story.kind,
        begun=begun,
        by=str(first.get("by", "")),
        host=str(first.get("host", "")),
        live=story.live or next((str(each["live"]) for each in entries if each.get("live")), ""),
        point=story.point or next((str(each["point"]) for each in entries if each.get("point")), ""),
        outcome=story.outcome,
        status=str(next((each["status"] for each in reversed(entries) if each["event"] == "ended"), "")),
        seconds=round(seconds, 3),
        detail=_detail(entries[0]),
    )


def _detail(begun: object) -> str:
    """What tells more than the kind: which way maintenance was switched, what a validation found, what is undone."""
    if not isinstance(begun, dict):
        return ""
    plan = begun.get("plan")
    if isinstance(plan, dict) and plan.get("undoes"):
        return str(plan["undoes"])
    return str(begun.get("action") or begun.get("verdict") or begun.get("into") or "")
