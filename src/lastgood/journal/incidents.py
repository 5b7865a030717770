"""Rollbacks that people have to come back to: what they still refer to, until their post-mortem is written.

Read from the journals of this machine. Who removes restore points or kept databases asks ``open_ones`` first; what is
left to do of each, ``procedure.record`` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from lastgood.journal import SENSELESS, Journal
from lastgood.journal.reader import EMERGENCY, SWAP, Entry, entries

POST_MORTEM = "post_mortem"
# More journals than this are not looked at; nobody writes a post-mortem so much later.
LOOKED_AT = 100
KINDS = ("rollback", "recover")


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody's word that an item of the checklist after is done."""

    item: str
    by: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """A rollback that switched the databases. ``ended`` is the last that is known of it. ``point``, ``kept`` and
    ``emergency`` are what the post-mortem may have to look at: paths, and the name of the kept database."""

    run: str
    kind: str
    live: str
    server: str
    begun: datetime
    ended: datetime
    point: str
    kept: str
    emergency: str
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether nobody has said yet that its post-mortem is written."""
        return POST_MORTEM not in self.answers

    def due(self, within: float) -> datetime:
        """When its post-mortem is due, so many seconds after its end."""
        return self.ended + timedelta(seconds=within)


def all_of(state: Path, live: str, server: str | None = None) -> tuple[Incident, ...]:
    """Those of one live database, the newest first; ``server`` as ``Plan.server`` has it, where it is to be that one.
    What can't be read is left out, and so are runs of versions that did not say who began them."""
    found = []
    for journal in islice(Journal.newest(state, *KINDS), LOOKED_AT):
        with suppress(*SENSELESS):
            each = read(journal)
            if each is not None and each.live == live and server in (None, each.server):
                found.append(each)
    return tuple(found)


def open_ones(state: Path, live: str, server: str | None = None) -> tuple[Incident, ...]:
    """Those whose post-mortem is not written yet: what they refer to is still needed."""
    return tuple(each for each in all_of(state, live, server) if each.is_open)


def read(journal: Journal) -> Incident | None:
    """The incident that a journal tells of; None when it is none. Raises what SENSELESS names."""
    plan: Mapping[str, Any] = {}
    begun: Entry | None = None
    last: Entry | None = None
    switched, emergency, kind = False, "", ""
    answers: dict[str, Answer] = {}
    for each in entries(journal, "begun", "resumed", "ended", "answered", "done", "undoing"):
        if each.event in ("begun", "resumed"):
            begun, plan = begun or each, each.plan or plan
            kind = kind or each.kind
            if kind not in KINDS:
                return None
        elif each.event == "done" and each.step == SWAP:
            switched = True
        elif each.event == "done" and each.step == EMERGENCY:
            emergency = str(each.result.get("path", ""))
        elif each.event == "ended":
            switched = switched or each.status in ("done", "undone")
        elif each.event == "answered":
            item = each.text("item")
            answers[item] = Answer(item, each.text("person"), each.at, each.text("note"))
        if each.event != "answered":
            last = each
    if not switched or last is None or begun is None or not (begun.by and begun.live):
        return None
    folder = Path(begun.text("folder"))
    point = str(plan["point"]["path"]) if plan else begun.text("point")
    return Incident(
        run=journal.run,
        kind=kind,
        live=begun.live,
        server=str(plan.get("server", begun.text("server"))),
        begun=begun.at,
        ended=last.at,
        point=str(folder / point) if point else "",
        kept=str(plan.get("kept", "")),
        emergency=str(folder / emergency) if emergency else "",
        answers=answers,
    )
