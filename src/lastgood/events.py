"""Typed events that work emits; text, JSON lines and the console render them.

Work never prints. It takes an ``Emit`` and calls it from any thread; a renderer must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage of the work has begun. ``name`` is stable (``build``, ``prove``), ``title`` is for people."""

    name: str
    title: str


@dataclass(frozen=True, slots=True)
class Phase:
    """How far a part of a stage is: ``done`` of ``total`` in ``unit`` (``bytes``, ``indexes``, ``foreign keys``,
    ``tables``). Phases overlap. ``seconds_left``: until it ends, where that is known."""

    name: str
    done: int
    total: int
    unit: str
    seconds_left: float | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is: ``done`` of ``total`` in ``unit`` (``bytes``, ``rows``, ``tables``).

    ``total`` is None when it can't be known; ``detail`` names what is being worked on.

    Of the stage ``build`` more is known: ``phases`` (``rows``, ``indexes``, ``keys``, ``reading back``,
    ``statistics``); ``rate``, how much was done in a second lately; ``seconds_left`` until the stage ends; and
    ``share``, how much of its time has passed, between 0 and 1. The last two are null until they can be believed: from
    the beginning where an earlier load on this server taught them.
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
    """A stage has ended well after ``seconds``; ``detail`` is its result in a few words."""

    name: str
    seconds: float
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StageFailed:
    """A stage has ended with an error; the error itself travels as an exception."""

    name: str
    seconds: float
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something worth saying that is no cause for worry."""

    text: str


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that the operator should look at; the work goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Printed:
    """A line that a foreign program printed during a stage, without its end and without colours."""

    stage: str
    line: str


Event = StageStarted | Progress | StageDone | StageFailed | Note | Caution | Printed
Emit = Callable[[Event], None]


def silent(event: Event) -> None:
    """An ``Emit`` that drops everything."""
