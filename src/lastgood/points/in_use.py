"""Restore points that are still needed, regardless of retention policy and age.

Kept even when they are named: points of an unfinished run or deployment, points that a running drill may read, and
pinned points. Kept unless they are named: the point of the newest kept database, and points that a pending post-mortem
refers to.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lastgood.journal import JOURNAL_ERRORS, Journal, caller, incidents
from lastgood.journal.reader import Entry, entries
from lastgood.points import pins
from lastgood.postgres.database import Database
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.mark import Mark, marked
from lastgood.postgres.server import Connection

# The newest journals that are searched for a running drill.
JOURNALS = 50


@dataclass(frozen=True, slots=True)
class Need:
    """The reason why a restore point is kept. ``unconditional``: even when it is named."""

    why: str
    unconditional: bool


def needs(
    maintenance: Connection,
    live: str,
    paths: Iterable[Path],
    state: Path | None,
    *,
    post_mortems: bool = True,
    leftovers: Sequence[tuple[Database, Mark]] | None = None,
) -> dict[str, Need]:
    """Path → need, for the restore points of the database ``live`` that are needed. ``state`` is the folder with this
    machine's journals; ``post_mortems``: whether post-mortems are required. ``leftovers``: the databases and schemas
    that runs left on the server, with their marks; by default only the databases.

    Runs and marks name a point by its path on their machine, so points are matched by name. Of two points with the same
    name both are kept.
    """
    databases = marked(maintenance) if leftovers is None else leftovers
    marks = [
        mark
        for needs_by_path, mark in databases
        if mark.live == live and not (needs_by_path.invalid and mark.role == "kept")
    ]
    needed = list(_needed_names(maintenance, live, state, post_mortems, marks))
    drill = _drill(state, live) if state is not None else None
    needs_by_path: dict[str, Need] = {}
    for path in paths:
        pin = pins.pin_of(path)
        reasons = [Need(pin.summary, unconditional=True)] if pin is not None else []
        reasons += [need for name, need in needed if name == path.name]
        reasons += [Need(f"drill {drill} is running and may read it", unconditional=True)] if drill is not None else []
        if reasons:
            needs_by_path[str(path)] = next((each for each in reasons if each.unconditional), reasons[0])
    return needs_by_path


def _needed_names(
    maintenance: Connection, live: str, state: Path | None, post_mortems: bool, marks: Sequence[Mark]
) -> Iterator[tuple[str, Need]]:
    """The names of needed points, and why."""
    for mark in marks:
        if mark.role == "shadow":
            yield Path(mark.point).name, Need("an unfinished run needs it", unconditional=True)
    deployment = find_deployment(maintenance, live)
    if deployment is not None:
        yield (
            Path(deployment.point).name,
            Need(f"the unfinished deployment {deployment.run} needs it", unconditional=True),
        )
    kept = [mark for mark in marks if mark.role == "kept"]
    if kept:
        newest = max(kept, key=lambda mark: mark.started)
        yield Path(newest.point).name, Need(f"run {newest.run} restored it and can be undone", unconditional=False)
    if state is None:
        return
    for each in incidents.open_incidents(state, live) if post_mortems else ():
        for path in (each.point, each.emergency):
            if path:
                command = f"lastgood report {each.run} --done post_mortem --by NAME"
                yield (
                    Path(path).name,
                    Need(f"the post-mortem of run {each.run} is not written ({command})", unconditional=False),
                )


def _drill(state: Path, live: str) -> str | None:
    """The drill of ``live`` that is running on this machine. Its journal does not have the restore points that it will
    read."""
    for journal in reversed(Journal.all(state)[-JOURNALS:]):
        with suppress(*JOURNAL_ERRORS):
            begun: Entry | None = None
            for each in entries(journal, "begun", "ended"):
                begun = each if each.event == "begun" else None
            if begun is not None and (begun.kind, begun.live) == ("drill", live) and _is_running(begun):
                return journal.run
    return None


def _is_running(begun: Entry) -> bool:
    """Whether the process that began it still exists."""
    process = begun.number("pid")
    if process is None or begun.host != caller.host():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it belongs to another user
    return True
