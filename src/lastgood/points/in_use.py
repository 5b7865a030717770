"""Restore points that somebody still needs, whatever a policy or an age says of them.

What a run or a deployment that is not finished goes back to, what a drill may read, and what is pinned: those stay even
when they are named. What the newest kept database belongs to, and what a post-mortem that is not written refers to:
those stay unless they are named.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lastgood.journal import SENSELESS, Journal, incidents, person
from lastgood.journal.reader import Entry, entries
from lastgood.points import pins
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.mark import marked
from lastgood.postgres.server import Connection

# More journals than this are not looked at for a drill that is at work.
JOURNALS = 50


@dataclass(frozen=True, slots=True)
class Need:
    """Why a restore point stays. ``always``: even when it is named."""

    why: str
    always: bool


def needs(
    maintenance: Connection,
    live: str,
    paths: Iterable[Path],
    state: Path | None,
    *,
    post_mortems: bool = True,
) -> dict[str, Need]:
    """Path → need, of those restore points of the database ``live`` that are needed. ``state`` is the folder with this
    machine's journals; ``post_mortems``: whether any are to be written.

    Runs and marks name a point by the path that it has on their machine: here its name counts. A point too many stays
    where two are called the same.
    """
    said = list(_said(maintenance, live, state, post_mortems))
    drill = _drill(state, live) if state is not None else None
    found: dict[str, Need] = {}
    for path in paths:
        pin = pins.pin_of(path)
        mine = [Need(pin.said, always=True)] if pin is not None else []
        mine += [need for name, need in said if name == path.name]
        mine += [Need(f"drill {drill} is at work, and may read it", always=True)] if drill is not None else []
        if mine:
            found[str(path)] = next((each for each in mine if each.always), mine[0])
    return found


def _said(maintenance: Connection, live: str, state: Path | None, post_mortems: bool) -> Iterator[tuple[str, Need]]:
    """The names of needed points, and why."""
    marks = [
        mark for found, mark in marked(maintenance) if mark.live == live and not (found.invalid and mark.role == "kept")
    ]
    for mark in marks:
        if mark.role == "shadow":
            yield Path(mark.point).name, Need("an unfinished run needs it", always=True)
    deployment = find_deployment(maintenance, live)
    if deployment is not None:
        yield Path(deployment.point).name, Need(f"the unfinished deployment {deployment.run} needs it", always=True)
    kept = [mark for mark in marks if mark.role == "kept"]
    if kept:
        newest = max(kept, key=lambda mark: mark.started)
        yield Path(newest.point).name, Need(f"run {newest.run} went back to it, and can be undone", always=False)
    if state is None:
        return
    for each in incidents.open_ones(state, live) if post_mortems else ():
        for path in (each.point, each.emergency):
            if path:
                done = f"lastgood report {each.run} --done post_mortem --by NAME"
                yield Path(path).name, Need(f"the post-mortem of run {each.run} is not written ({done})", always=False)


def _drill(state: Path, live: str) -> str | None:
    """The drill of ``live`` that is at work on this machine. Which restore points it reads it may not know itself."""
    for journal in reversed(Journal.all(state)[-JOURNALS:]):
        with suppress(*SENSELESS):
            begun: Entry | None = None
            for each in entries(journal, "begun", "ended"):
                begun = each if each.event == "begun" else None
            if begun is not None and (begun.kind, begun.live) == ("drill", live) and _lives(begun):
                return journal.run
    return None


def _lives(begun: Entry) -> bool:
    """Whether the process is there still that began it."""
    process = begun.number("pid")
    if process is None or begun.host != person.host():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's
    return True
