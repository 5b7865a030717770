"""The phases of a drill: start, duration and amount of data of each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lastgood.command.drill.evidence import DrillPhase, Outcome
from lastgood.events import Caution, Emit, Event, StageDone, StageFailed, StageStarted


@dataclass(slots=True)
class RunningPhase:
    """A phase in progress. ``bytes`` and ``rows``: how much was transferred, if meaningful."""

    name: str
    title: str
    begin: float
    end: float | None = None
    outcome: Outcome = "failed"
    detail: str = ""
    bytes: int | None = None
    rows: int | None = None


@dataclass(slots=True)
class Phases:
    """The phases of one drill. ``nested`` turns the stages of ``restore``, ``rollback`` and ``undo`` into parts of a
    phase."""

    emit: Emit
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    cautions: list[str] = field(default_factory=list)
    _zero: float = field(default_factory=time.monotonic)
    _found: list[RunningPhase] = field(default_factory=list)

    @contextmanager
    def phase(self, name: str, title: str) -> Iterator[RunningPhase]:
        """Measure a block and emit its events."""
        one = RunningPhase(name, title, self._now())
        self._found.append(one)
        self.emit(StageStarted(name, title))
        try:
            yield one
        except BaseException as error:
            one.end, one.detail = self._now(), str(error)
            self.emit(StageFailed(name, one.end - one.begin, str(error).partition("\n")[0]))
            raise
        one.end, one.outcome = self._now(), "done"
        self.emit(StageDone(name, one.end - one.begin, one.detail))

    @contextmanager
    def nested(self, prefix: str) -> Iterator[Emit]:
        """Provide an ``Emit`` for a part of the procedure: its stages become phases named ``prefix.stage``."""
        begun: dict[str, RunningPhase] = {}

        def record(event: Event) -> None:
            match event:
                case StageStarted():
                    begun[event.name] = RunningPhase(f"{prefix}.{event.name}", event.title, self._now())
                    self._found.append(begun[event.name])
                case StageDone() if event.name in begun:
                    one = begun.pop(event.name)
                    one.end, one.outcome, one.detail = one.begin + event.seconds, "done", event.detail
                case StageFailed() if event.name in begun:
                    one = begun.pop(event.name)
                    one.end, one.detail = one.begin + event.seconds, event.reason
                case Caution() if event.text not in self.cautions:
                    self.cautions.append(event.text)
            self.emit(event)

        yield record

    def add(self, name: str, *, bytes: int | None = None, rows: int | None = None) -> None:
        """Add the amount of data of a phase when it becomes known later."""
        for one in self._found:
            if one.name == name:
                one.bytes, one.rows = bytes, rows

    def all(self) -> tuple[DrillPhase, ...]:
        """Return all phases as data, in order of their start."""
        return tuple(
            DrillPhase(
                name=one.name,
                title=one.title,
                begin=round(one.begin, 3),
                seconds=round((self._now() if one.end is None else one.end) - one.begin, 3),
                outcome=one.outcome,
                detail=one.detail,
                bytes=one.bytes,
                rows=one.rows,
            )
            for one in self._found
        )

    def _now(self) -> float:
        return time.monotonic() - self._zero
