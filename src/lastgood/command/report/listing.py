"""The list of runs."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from lastgood.command.explain.run import story_of, titles
from lastgood.command.report.chronicle import Chronicle
from lastgood.command.report.document import RunLine, Runs
from lastgood.journal import JOURNAL_ERRORS, Journal
from lastgood.journal.reader import Entry, read_run

# Listed only on request, because it may run every hour.
UNLISTED = "validate"


def runs(state: Path, kind: str | None = None, limit: int = 20) -> Runs:
    """Return the newest ``limit`` runs of this machine, of one ``kind`` if given, otherwise without validations. Empty
    and damaged journals are left out."""
    found: list[RunLine] = []
    undone: dict[str, str] = {}  # an undo is newer than the run that it reverts
    # Journals that began on another machine may lack the kind in their first entry.
    kinds = ("undo", kind, "") if kind is not None else ()
    for journal in Journal.newest(state, *kinds):
        if kind is None and journal.kind == UNLISTED:
            continue
        line = None
        with suppress(*JOURNAL_ERRORS):
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
    found = read_run(journal)
    if found is None:
        return None
    story, chronicle = story_of(found), Chronicle(found, titles())
    who = next((each for each in found.entries if each.by and each.host), None)
    begun = chronicle.begun
    seconds = (chronicle.ended - begun).total_seconds()
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
    """Return the qualifier of the kind: maintenance on or off, the verdict of a validation, the undone run."""
    if undoes := begun.plan.get("undoes"):
        return str(undoes)
    return begun.text("action") or begun.text("verdict") or begun.text("into")
