"""Incidents: rollbacks with a post-mortem, and the databases and files that they refer to until it is written.

Read from the journals of this machine. Before restore points or kept databases are removed, ``open_ones`` is checked.
For the open items of each incident, see ``command.report``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from lastgood.journal import JOURNAL_ERRORS, Journal
from lastgood.journal.reader import EMERGENCY, SWAP, Entry, entries

POST_MORTEM = "post_mortem"
# Only the newest journals are read; a post-mortem of older runs is not expected.
MOST_JOURNALS = 100
KINDS = ("rollback", "recover")


@dataclass(frozen=True, slots=True)
class FollowUpAttestation:
    """A person's attestation that an item of the checklist after the run is done."""

    item: str
    by: str
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True)
class Incident:
    """A rollback that switched the databases. ``ended``: the time of its last entry. ``point`` and ``emergency`` are
    paths, ``kept`` is the name of the kept database; the post-mortem may need them."""

    run: str
    kind: str
    live: str
    server: str
    begun: datetime
    ended: datetime
    point: str
    kept: str
    emergency: str
    answers: Mapping[str, FollowUpAttestation] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        """Whether the post-mortem is not attested yet."""
        return POST_MORTEM not in self.answers

    def due(self, within: float) -> datetime:
        """Return the due time of the post-mortem, ``within`` seconds after the end."""
        return self.ended + timedelta(seconds=within)


def incidents_of(state: Path, live: str, server: str | None = None) -> tuple[Incident, ...]:
    """Return the incidents of one live database, the newest first; with ``server`` (as in ``Plan.server``) only those
    on it. Unreadable journals are left out, and runs of versions that did not record the user."""
    incidents = []
    for journal in islice(Journal.newest(state, *KINDS), MOST_JOURNALS):
        with suppress(*JOURNAL_ERRORS):
            each = incident_of(journal)
            if each is not None and each.live == live and server in (None, each.server):
                incidents.append(each)
    return tuple(incidents)


def open_incidents(state: Path, live: str, server: str | None = None) -> tuple[Incident, ...]:
    """Return the incidents with an open post-mortem, whose databases and files are still needed."""
    return tuple(each for each in incidents_of(state, live, server) if each.is_open)


def incident_of(journal: Journal) -> Incident | None:
    """Return the incident of a journal; None if the run switched no database. Raises JOURNAL_ERRORS."""
    plan: Mapping[str, Any] = {}
    begun: Entry | None = None
    last: Entry | None = None
    switched, emergency, kind = False, "", ""
    attestations: dict[str, FollowUpAttestation] = {}
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
            attestations[item] = FollowUpAttestation(item, each.text("person"), each.at, each.text("note"))
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
        answers=attestations,
    )
