"""Earlier runs on this machine: when a database was last restored, from which restore point, and how long it took; and
the due time of the next drill.

Rollbacks are read from their journals. Other complete restores (``restore``, a drill) are recorded in the entry
``ended`` of their journal, which may be the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lastgood.journal import JOURNAL_ERRORS, Journal
from lastgood.journal.reader import Entry, entries
from lastgood.models import Frozen

Kind = Literal["rollback", "restore", "drill"]

KIND_TITLES: dict[Kind, str] = {
    "rollback": "rolled back",
    "restore": "restored into another database",
    "drill": "rehearsed in a drill",
}
# Only the newest journals are read: each may be as long as its database has tables.
MOST_JOURNALS = 50
# Below the state folder: a folder for each drill, named like the run.
DRILLS = "drills"


@dataclass(frozen=True, slots=True)
class PastRun:
    """A successful run. ``live``: its database; ``bytes``: the size of its restore point on disk; ``at``: its end;
    ``seconds``: its duration."""

    run: str
    kind: Kind
    live: str
    at: datetime
    seconds: float
    bytes: int
    point: str


class DrillDue(Frozen):
    """The due time of the next drill of a database. ``last`` and ``run`` are of the last successful one, null if there
    is none; then a drill is due now, and ``next`` is null."""

    last: datetime | None
    run: str | None
    next: datetime | None
    overdue: bool
    every: float


def past_fields(*, live: str, seconds: float, bytes: int, point: str) -> dict[str, Any]:
    """Return the field ``past`` of the entry ``ended``: with it, a run that is no rollback counts as a past run."""
    return {"live": live, "seconds": round(seconds, 3), "bytes": bytes, "point": point}


def past_runs(state: Path, live: str) -> tuple[PastRun, ...]:
    """Return the runs of one live database, the newest first, without unreadable journals."""
    # Drills are read separately, because many other runs may lie between two of them.
    newest = islice(Journal.newest(state, *KIND_TITLES), MOST_JOURNALS)
    return _newest_first({*_of(newest, live), *_of(_drills(state), live)})


def drill_due(state: Path, live: str, every: float, now: datetime) -> DrillDue:
    """Return the due time of the next drill of a live database, by the records of this machine."""
    drills = [run for run in _newest_first(_of(_drills(state), live)) if run.kind == "drill"]
    if not drills:
        return DrillDue(last=None, run=None, next=None, overdue=True, every=every)
    following = drills[0].at + timedelta(seconds=every)
    return DrillDue(last=drills[0].at, run=drills[0].run, next=following, overdue=following <= now, every=every)


def _newest_first(runs: Iterable[PastRun]) -> tuple[PastRun, ...]:
    return tuple(sorted(runs, key=lambda run: run.at, reverse=True))


def _drills(state: Path) -> list[Journal]:
    journals = [Journal.find(state, folder.name) for folder in sorted((state / DRILLS).glob("[0-9]*"))[-MOST_JOURNALS:]]
    return [journal for journal in journals if journal is not None]


def _of(journals: Iterable[Journal], live: str) -> Iterator[PastRun]:
    for journal in journals:
        with suppress(*JOURNAL_ERRORS):
            yield from [run for run in _completed(journal) if run.live == live]


def _completed(journal: Journal) -> Iterator[PastRun]:
    begun: Entry | None = None
    # The many entries of steps are skipped.
    for each in entries(journal, "begun", "resumed", "ended"):
        if each.event != "ended":
            begun = each
        elif each.status == "done" and (run := _past(journal.run, begun, each)) is not None:
            yield run


def _past(run: str, begun: Entry | None, ended: Entry) -> PastRun | None:
    if past := ended.past:
        kind = next((each for each in KIND_TITLES if each == ended.kind), None)
        if kind is None:
            return None
        live, seconds, size, point = past["live"], past["seconds"], past["bytes"], past["point"]
    elif begun is not None and begun.kind == "rollback":
        kind, plan = "rollback", begun.plan
        live, seconds = plan["live"], ended.report["seconds"]["total"]
        size, point = plan["point"]["bytes"], plan["point"]["path"]
    else:
        return None
    return PastRun(run=run, kind=kind, live=live, at=ended.at, seconds=float(seconds), bytes=int(size), point=point)
