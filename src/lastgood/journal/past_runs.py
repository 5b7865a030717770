"""What earlier runs on this machine tell: when a database was last restored, from what, and how long that took; and
when the next drill is due.

Rollbacks are read from their journals. Whatever else restores a database to the end (a restore beside it, a drill)
says so in the entry ``ended`` of its journal, which may be the only one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from lastgood.journal import SENSELESS, Journal
from lastgood.journal.reader import Entry, entries
from lastgood.models import Frozen

Kind = Literal["rollback", "restore", "drill"]

DID: dict[Kind, str] = {
    "rollback": "rolled back",
    "restore": "restored beside the live database",
    "drill": "rehearsed in a drill",
}
# More journals than this are not looked at: each may be as long as its database has tables.
LOOKED_AT = 50
# Below the state folder: what drills leave, a folder each, called like the run.
DRILLS = "drills"


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that went well. ``live`` is the database that it was for, ``bytes`` the size of its restore point on disk.
    ``at`` is when it ended, ``seconds`` how long it took in all."""

    run: str
    kind: Kind
    live: str
    at: datetime
    seconds: float
    bytes: int
    point: str


class DrillDue(Frozen):
    """When the next drill of a database is due. ``last`` and ``run`` are of the last one that went well, null when none
    did; then it is due now, and ``next`` is null."""

    last: datetime | None
    run: str | None
    next: datetime | None
    overdue: bool
    every: float


def past(*, live: str, seconds: float, bytes: int, point: str) -> dict[str, Any]:
    """What the entry ``ended`` of a journal says, as ``past``, of a run that is no rollback and counts as one here."""
    return {"live": live, "seconds": round(seconds, 3), "bytes": bytes, "point": point}


def past_runs(state: Path, live: str) -> tuple[PastRun, ...]:
    """Those of one live database, the newest first. What can't be read is left out."""
    # Months may lie between two drills, and many other runs.
    return _newest_first({*_of(islice(Journal.newest(state, *DID), LOOKED_AT), live), *_of(_drills(state), live)})


def drill_due(state: Path, live: str, every: float, now: datetime) -> DrillDue:
    """When the next drill of a live database is due, by those that this machine has a record of."""
    drills = [run for run in _newest_first(_of(_drills(state), live)) if run.kind == "drill"]
    if not drills:
        return DrillDue(last=None, run=None, next=None, overdue=True, every=every)
    following = drills[0].at + timedelta(seconds=every)
    return DrillDue(last=drills[0].at, run=drills[0].run, next=following, overdue=following <= now, every=every)


def _newest_first(runs: Iterable[PastRun]) -> tuple[PastRun, ...]:
    return tuple(sorted(runs, key=lambda run: run.at, reverse=True))


def _drills(state: Path) -> list[Journal]:
    found = [Journal.find(state, folder.name) for folder in sorted((state / DRILLS).glob("[0-9]*"))[-LOOKED_AT:]]
    return [journal for journal in found if journal is not None]


def _of(journals: Iterable[Journal], live: str) -> Iterator[PastRun]:
    for journal in journals:
        with suppress(*SENSELESS):
            yield from [run for run in _told(journal) if run.live == live]


def _told(journal: Journal) -> Iterator[PastRun]:
    begun: Entry | None = None
    # A step's entries, which are many, are not what is looked for.
    for each in entries(journal, "begun", "resumed", "ended"):
        if each.event != "ended":
            begun = each
        elif each.status == "done" and (past := _past(journal.run, begun, each)) is not None:
            yield past


def _past(run: str, begun: Entry | None, ended: Entry) -> PastRun | None:
    if past := ended.past:
        kind = next((each for each in DID if each == ended.kind), None)
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
