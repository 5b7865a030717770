"""The typed reader of journals: the only place that knows their fields.

A missing field reads as empty or None, because earlier versions wrote fewer fields. A field of the wrong type raises
TypeError; ``JOURNAL_ERRORS`` lists every error that a damaged journal may raise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lastgood.journal import Journal, parse_entry

# The steps whose results are read back, by the names that they have in every journal.
BUILD, EMERGENCY, MIGRATE, SWAP, WATCH = "build", "emergency", "migrate", "swap", "watch"
# The event after which no session of a killed migration is left.
SESSIONS_ENDED = "sessions ended"
# The events that name a person and a machine: a run was begun, resumed or aborted there.
CALLER_EVENTS = ("begun", "resumed", "aborting")
_HEAD = 100


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``fields`` has all fields of the line, for those that only one kind of event has."""

    at: datetime
    event: str
    fields: Mapping[str, Any]

    def text(self, name: str) -> str:
        """The text in field ``name``; "" where it is missing or null."""
        value = self.fields.get(name)
        if isinstance(value, Mapping | list):
            raise TypeError(f'"{name}" is not text')
        return "" if value is None else str(value)

    def number(self, name: str) -> float | None:
        """The number in field ``name``; None where it is missing or null."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, int | float):
            raise TypeError(f'"{name}" is not a number')
        return value

    def document(self, name: str) -> Mapping[str, Any]:
        """The object in field ``name``; empty where it is missing or null."""
        value = self.fields.get(name)
        if value is not None and not isinstance(value, Mapping):
            raise TypeError(f'"{name}" is not an object')
        return value or {}

    @property
    def kind(self) -> str:
        """The kind of the run: ``rollback``, ``undo`` and so on, as in ``recording.Kind``."""
        return self.text("kind")

    @property
    def live(self) -> str:
        """The live database."""
        return self.text("live")

    @property
    def by(self) -> str:
        """The user who ran the command."""
        return self.text("by")

    @property
    def host(self) -> str:
        """The machine that ran the command."""
        return self.text("host")

    @property
    def skew(self) -> float | None:
        """The seconds by which the server's clock was ahead of the machine's."""
        return self.number("skew")

    @property
    def plan(self) -> Mapping[str, Any]:
        """The plan, as ``--dry-run --json`` prints it."""
        return self.document("plan")

    @property
    def step(self) -> str:
        """The step that was announced, done or undone, or whose undo failed."""
        return self.text("step")

    @property
    def result(self) -> Mapping[str, Any]:
        """The result of the step."""
        return self.document("result")

    @property
    def reason(self) -> str:
        """The reason of a failure."""
        return self.text("reason")

    @property
    def status(self) -> str:
        """The last status: ``done``, ``failed``, ``stopped`` and so on."""
        return self.text("status")

    @property
    def error(self) -> Mapping[str, Any]:
        """The error that ended the run, as ``recording.error_data`` makes it."""
        return self.document("error")

    @property
    def report(self) -> Mapping[str, Any]:
        """The document that the command printed with ``--json``."""
        return self.document("report")

    @property
    def past(self) -> Mapping[str, Any]:
        """The figures of a complete restore, as ``past_runs.past`` makes them."""
        return self.document("past")


@dataclass(frozen=True, slots=True)
class RunHistory:
    """All entries of the journal of one run, oldest first; at least one."""

    run: str
    path: Path
    entries: tuple[Entry, ...]

    @property
    def first(self) -> Entry:
        """The oldest entry."""
        return self.entries[0]

    @property
    def kind(self) -> str:
        """The kind of the run. The journal of a machine that only resumed it has no ``begun``."""
        return next((each.kind for each in self.entries if each.event == "begun"), self.first.kind or "rollback")

    @property
    def plan(self) -> Mapping[str, Any]:
        """The newest plan; empty for a run without one."""
        return next((each.plan for each in reversed(self.entries) if each.fields.get("plan")), {})

    @property
    def past(self) -> Mapping[str, Any]:
        """The figures of a restore or a drill, which have no plan; empty for other runs."""
        return next((each.past for each in self.entries if each.past), {})

    @property
    def live(self) -> str:
        """The live database; "" where nothing names it."""
        names = (each.live for each in self.entries if each.live)
        return str(self.plan.get("live") or self.past.get("live") or next(names, ""))

    @property
    def point(self) -> str:
        """The restore point that the run used or made; "" where there is none."""
        point = self.plan.get("point") or self.past.get("point")
        if isinstance(point, Mapping):
            return str(point.get("path") or point.get("name") or "")
        return str(point or next((each.text("path") for each in self.of("point")), ""))

    @property
    def named_point(self) -> str:
        """The restore point in the first entry that names one, for runs whose ``point`` is empty."""
        return next((name for each in self.entries if (name := each.text("point"))), "")

    @property
    def folder(self) -> Path:
        """The folder in which the run was begun: paths may be relative to it."""
        return Path(next((name for each in self.entries if (name := each.text("folder"))), ""))

    @property
    def ended(self) -> Entry | None:
        """The newest ``ended`` entry; None while the run is active, and after a kill."""
        return self.last("ended")

    def of(self, *events: str) -> Iterator[Entry]:
        """The entries of these kinds."""
        return (each for each in self.entries if each.event in events)

    def last(self, *events: str) -> Entry | None:
        """The newest entry of these kinds."""
        return next((each for each in reversed(self.entries) if each.event in events), None)

    def result(self, step: str) -> Mapping[str, Any]:
        """The newest result of a step; empty where it was never done."""
        return next((each.result for each in reversed(self.entries) if (each.event, each.step) == ("done", step)), {})


def entries(journal: Journal, *events: str) -> Iterator[Entry]:
    """The entries, oldest first. With ``events``, other entries are skipped without parsing: most entries are notes. A
    line that a crash or a full disk has truncated is left out."""
    wanted = [f'"event": "{event}"'.encode() for event in events]
    with journal.path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n") and (not wanted or any(event in line[:_HEAD] for event in wanted)):
                fields = parse_entry(line)
                if fields is not None and (not events or fields["event"] in events):
                    yield Entry(datetime.fromisoformat(fields["at"]), fields["event"], fields)


def read_run(journal: Journal) -> RunHistory | None:
    """Read a whole journal; None where it has no entry."""
    read = tuple(entries(journal))
    return RunHistory(journal.run, journal.path, read) if read else None
