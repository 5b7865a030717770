"""The entries of journals, typed: the one place that knows what stands where in them.

What an entry lacks is empty or None: earlier versions wrote less. What is of another kind than it should be raises
TypeError; ``SENSELESS`` names all that may come of a journal that makes no sense.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lastgood.journal import Journal, entry_of

# The steps that readers look for by what they mean; they are called so in every journal.
BUILD, EMERGENCY, SWAP, WATCH = "build", "emergency", "swap", "watch"
# Somebody began the run, went on with it, or takes it back.
CAME = ("begun", "resumed", "aborting")
_HEAD = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``fields`` are those of the file, for what only an event of its own has."""

    at: datetime
    event: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """A field that is text; "" where it is missing or null."""
        found = self.fields.get(name)
        if isinstance(found, Mapping | list):
            raise TypeError(f'"{name}" is no text')
        return "" if found is None else str(found)

    def number(self, name: str) -> float | None:
        """A field that is a number; None where it is missing or null."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, int | float):
            raise TypeError(f'"{name}" is no number')
        return found

    def document(self, name: str) -> Mapping[str, Any]:
        """A field that is an object; empty where it is missing or null."""
        found = self.fields.get(name)
        if found is not None and not isinstance(found, Mapping):
            raise TypeError(f'"{name}" is no object')
        return found or {}

    @property
    def kind(self) -> str:
        """Of what it is a record: ``rollback``, ``undo`` …"""
        return self.text("kind")

    @property
    def live(self) -> str:
        """The live database."""
        return self.text("live")

    @property
    def by(self) -> str:
        """Who did it."""
        return self.text("by")

    @property
    def host(self) -> str:
        """On which machine."""
        return self.text("host")

    @property
    def skew(self) -> float | None:
        """By how many seconds the server's clock was ahead of that of the machine."""
        return self.number("skew")

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan, as ``--dry-run --json`` prints it."""
        return self.document("plan")

    @property
    def step(self) -> str:
        """The step that is announced, done, undone, or could not be undone."""
        return self.text("step")

    @property
    def result(self) -> Mapping[str, Any]:
        """What the step gave."""
        return self.document("result")

    @property
    def reason(self) -> str:
        """Why something failed."""
        return self.text("reason")

    @property
    def status(self) -> str:
        """How it ended: ``done``, ``failed``, ``stopped`` …"""
        return self.text("status")

    @property
    def error(self) -> Mapping[str, Any]:
        """The error that it ended with, as ``recording.error_data`` has it."""
        return self.document("error")

    @property
    def report(self) -> Mapping[str, Any]:
        """What the command printed with ``--json``."""
        return self.document("report")

    @property
    def past(self) -> Mapping[str, Any]:
        """What a restore that went to its end took, as ``past_runs.past`` has it."""
        return self.document("past")


@dataclass(frozen=True, slots=True)
class Recorded:
    """All that a journal holds of a run, oldest first; at least one entry."""

    run: str
    path: Path
    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        """The one that it begins with."""
        return self.entries[0]

    @property
    def kind(self) -> str:
        """Of what it is a record. On another machine it may begin with who went on."""
        return next((each.kind for each in self.entries if each.event == "begun"), self.first.kind or "rollback")

    @property
    def plan(self) -> Mapping[str, Any]:
        """The newest plan; empty for what has none."""
        return next((each.plan for each in reversed(self.entries) if each.fields.get("plan")), {})

    @property
    def past(self) -> Mapping[str, Any]:
        """What a restore or a drill took; empty for what is none. It has no plan."""
        return next((each.past for each in self.entries if each.past), {})

    @property
    def live(self) -> str:
        """The live database; "" where nothing names it."""
        named = (each.live for each in self.entries if each.live)
        return str(self.plan.get("live") or self.past.get("live") or next(named, ""))

    @property
    def point(self) -> str:
        """The restore point that was gone back to or made; "" where there was none."""
        point = self.plan.get("point") or self.past.get("point")
        if isinstance(point, Mapping):
            return str(point.get("path") or point.get("name") or "")
        return str(point or next((each.text("path") for each in self.of("point")), ""))

    @property
    def named_point(self) -> str:
        """The restore point that any entry names, of what neither went back to one nor made one."""
        return next((found for each in self.entries if (found := each.text("point"))), "")

    @property
    def folder(self) -> Path:
        """In which folder it was begun: paths may be relative to it."""
        return Path(next((found for each in self.entries if (found := each.text("folder"))), ""))

    @property
    def ended(self) -> Entry | None:
        """The last word of a process that could say how it ended."""
        return self.last("ended")

    def of(self, *events: str) -> Iterator[Entry]:
        """The entries of these kinds."""
        return (each for each in self.entries if each.event in events)

    def last(self, *events: str) -> Entry | None:
        """The newest entry of these kinds."""
        return next((each for each in reversed(self.entries) if each.event in events), None)

    def result(self, step: str) -> Mapping[str, Any]:
        """What a step gave when it was last done; empty where it never was."""
        return next((each.result for each in reversed(self.entries) if (each.event, each.step) == ("done", step)), {})


def entries(journal: Journal, *events: str) -> Iterator[Entry]:
    """The entries, oldest first; only those of these ``events``, if any are given: most of a journal is what was said
    meanwhile, which is passed over unread. Left out is what a crash or a full disk has torn."""
    wanted = [f'"event": "{event}"'.encode() for event in events]
    with journal.path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (not wanted or any(event in line[:_HEAD] for event in wanted)):
                found = entry_of(line)
                if found is not None and (not events or found["event"] in events):
                    yield Entry(datetime.fromisoformat(found["at"]), found["event"], found)


def recorded(journal: Journal) -> Recorded | None:
    """All of a journal; None for one that says nothing."""
    found = tuple(entries(journal))
    return Recorded(journal.run, journal.path, found) if found else None
