"""The figures of the watch: their computation from samples, and the rule by which one counts as worse than before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lastgood.application.results import Figure
from lastgood.postgres.pressure.activity import Sample


@dataclass(frozen=True, slots=True)
class FigureKind:
    """A figure. It counts as worse if it is at least ``factor`` times the earlier value and rose by at least ``floor``:
    on a quiet night most figures are near zero, and twice that is still near zero."""

    name: str
    title: str
    unit: str
    floor: float


KINDS = (
    FigureKind("rollbacks", "transactions rolled back", "/s", 0.5),
    FigureKind("deadlocks", "deadlocks", "/s", 0.05),
    FigureKind("conflicts", "queries cancelled by recovery", "/s", 0.05),
    FigureKind("ended_sessions", "sessions ended abnormally", "/s", 0.1),
    FigureKind("lock_waits", "sessions waiting for locks", "", 2.0),
    FigureKind("statement_time", "mean statement time", "ms", 5.0),
    FigureKind("connections", "connections", "", 20.0),
    FigureKind("application_errors", "errors in Sentry", "/s", 0.1),
)
Figures = Mapping[str, float | None]


def figures_of(samples: Sequence[Sample]) -> dict[str, float | None]:
    """The figures of a period: rates between its first and its last sample, averages of the values that are sampled.
    The rate of a counter that went backwards (its statistics were reset) is None."""
    first, last = samples[0], samples[-1]
    seconds = last.at - first.at

    def rate(before: int, after: int) -> float | None:
        return (after - before) / seconds if seconds > 0 and after >= before else None

    spent: float | None = None
    if None not in (first.calls, first.milliseconds, last.calls, last.milliseconds):
        calls = (last.calls or 0) - (first.calls or 0)
        spent = ((last.milliseconds or 0.0) - (first.milliseconds or 0.0)) / calls if calls > 0 else None
    return {
        "rollbacks": rate(first.rollbacks, last.rollbacks),
        "deadlocks": rate(first.deadlocks, last.deadlocks),
        "conflicts": rate(first.conflicts, last.conflicts),
        "ended_sessions": rate(first.ended, last.ended),
        "lock_waits": sum(each.lock_waits for each in samples) / len(samples),
        "statement_time": max(0.0, spent) if spent is not None else None,
        "connections": sum(each.connections for each in samples) / len(samples),
    }


def compare(before: Figures, after: Figures, factor: float) -> tuple[Figure, ...]:
    """Each figure that was measured in at least one of the two periods, with a verdict."""
    return tuple(
        _compared(kind, before.get(kind.name), after.get(kind.name), factor)
        for kind in KINDS
        if (before.get(kind.name), after.get(kind.name)) != (None, None)
    )


def _compared(kind: FigureKind, before: float | None, after: float | None, factor: float) -> Figure:
    worse = False
    if before is not None and after is not None:
        worse = after >= before * factor and after - before >= kind.floor
        if kind.name == "connections":
            # No connection where there were some: the application has not reconnected.
            worse = worse or (after == 0 and before >= 1)
    return Figure(
        name=kind.name,
        title=kind.title,
        unit=kind.unit,
        before=round(before, 3) if before is not None else None,
        after=round(after, 3) if after is not None else None,
        verdict="unknown" if before is None or after is None else "worse" if worse else "same",
    )
