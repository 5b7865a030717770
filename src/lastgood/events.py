"""Typed events of running work; text, JSON lines and the console render them.

Work never prints. It takes an ``Emit`` and calls it from any thread; a renderer must be fast and must not raise.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of the work has begun. ``name`` is stable (``build``, ``prove``), ``title`` is for people."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Phase:
    """The progress of a part of a stage: ``done`` of ``total`` in ``unit`` (``bytes``, ``indexes``, ``foreign keys``,
    ``tables``). Phases overlap. ``seconds_left``: the estimated time to its end, if known."""

    name: str
    done: int
    total: int
    unit: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a stage: ``done`` of ``total`` in ``unit`` (``bytes``, ``rows``, ``tables``).

    ``total`` is None when it is unknown; ``detail`` names the current object.

    The stage ``build`` has more: ``phases`` (``rows``, ``indexes``, ``keys``, ``reading back``, ``statistics``);
    ``rate``, the recent amount per second; ``seconds_left``, the estimated time to its end; and ``share``, the elapsed
    part of its duration, between 0 and 1. The last two are null until they are reliable: with figures of an earlier
    load on this server from the beginning.
    """

    stage: str
    done: int
    total: int | None
    unit: str
    rows: int = 0
    detail: str = ""
    phases: tuple[Phase, ...] = ()
    rate: int | None = None
    seconds_left: float | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class StageDone:
    """A stage has succeeded after ``seconds``; ``detail`` is its result in a few words."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageFailed:
    """A stage has failed; the error itself is raised as an exception."""

    name: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Information that needs no attention."""

    text: str


@dataclass(frozen=True, slots=True)
class Caution:
    """A warning for the operator; the work continues."""

    text: str


@dataclass(frozen=True, slots=True)
class Printed:
    """A line that a foreign program printed during a stage, without its line end and colours."""

    stage: str
    line: str


@dataclass(frozen=True, slots=True)
class ExpectedStages:
    """The stages of a run that is about to begin. ``longest``: the one that decides how long it takes; ``seconds``: the
    expected duration to its end, None without an estimate. Only a live display uses it."""

    stages: tuple[str, ...]
    longest: str
    seconds: float | None = None


Event = StageStarted | Progress | StageDone | StageFailed | Note | Caution | Printed | ExpectedStages
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """An ``Emit`` that drops everything."""


@dataclass(slots=True)
class Stage:
    """A running stage. ``detail``: its result in a few words; ``seconds``: its duration, once it has succeeded."""

    detail: str = ""
    seconds: float = 0.0


@contextmanager
def reported(emit: Emit, name: str, title: str) -> Iterator[Stage]:
    """Report the block as a stage: its start, and its end if it succeeds. The block sets the stage's ``detail``."""
    began = time.monotonic()
    emit(StageStarted(name, title))
    stage = Stage()
    yield stage
    stage.seconds = time.monotonic() - began
    emit(StageDone(name, stage.seconds, stage.detail))
