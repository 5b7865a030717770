"""The results of hooks, checks and the watch: for the journal, the report and the errors."""

from __future__ import annotations

from typing import Literal

from lastgood.models import Frozen


class HookResult(Frozen):
    """One call of a hook. ``status`` is null when it could not be started, or was terminated at its time limit;
    ``problem`` is empty when it succeeded. ``output`` is the end of its output, without passwords."""

    hook: str
    program: str
    stage: str
    seconds: float
    status: int | None
    output: str
    problem: str = ""


class HealthResult(Frozen):
    """The last response of the application, after ``tries`` requests: ``body`` is its beginning, without passwords.
    ``problem`` is empty when the check passed."""

    url: str
    tries: int
    seconds: float
    status: int | None
    body: str
    problem: str = ""


class Figure(Frozen):
    """One figure of the watch, before the run and after the switch; null where it is unknown. ``same`` includes
    better."""

    name: str
    title: str
    unit: str
    before: float | None
    after: float | None
    verdict: Literal["same", "worse", "unknown"]


class WatchResult(Frozen):
    """The figures of the server, over ``seconds`` after the switch and ``before_seconds`` before the run. ``ended`` is
    the reason when the watch was shorter than planned."""

    seconds: float
    samples: int
    before_seconds: float | None
    figures: tuple[Figure, ...]
    ended: str = ""

    @property
    def worse(self) -> tuple[Figure, ...]:
        """The figures that are worse than before."""
        return tuple(figure for figure in self.figures if figure.verdict == "worse")


class ApplicationReport(Frozen):
    """The hooks that ran, and the state of the application. ``health`` is the last health check."""

    hooks: tuple[HookResult, ...] = ()
    health: HealthResult | None = None
    watch: WatchResult | None = None
