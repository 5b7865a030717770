"""What hooks, checks and the watch gave: for the journal, the report and the error that they may end in."""

from __future__ import annotations

from typing import Literal

from lastgood.models import Frozen


class HookResult(Frozen):
    """One call of a hook. ``status`` is null when it could not be started, or was ended when its time was over;
    ``problem`` is empty when it went well. ``output`` is the end of what it printed, without passwords."""

    hook: str
    program: str
    stage: str
    seconds: float
    status: int | None
    output: str
    problem: str = ""


class HealthResult(Frozen):
    """What the application answered last, to the so many ``tries``: ``body`` is the beginning of it, without passwords.
    ``problem`` is empty when it is well."""

    url: str
    tries: int
    seconds: float
    status: int | None
    body: str
    problem: str = ""


class Figure(Frozen):
    """One figure of the watch, before the run and after the switch; null where it is not known. ``same`` includes
    better."""

    name: str
    title: str
    unit: str
    before: float | None
    after: float | None
    verdict: Literal["same", "worse", "not known"]


class WatchResult(Frozen):
    """The server, watched for so many ``seconds``, with figures of so many seconds ``before``. ``ended`` says why it
    was shorter than planned."""

    seconds: float
    samples: int
    before_seconds: float | None
    figures: tuple[Figure, ...]
    ended: str = ""

    @property
    def worse(self) -> tuple[Figure, ...]:
        """What is worse than before."""
        return tuple(figure for figure in self.figures if figure.verdict == "worse")


class ApplicationReport(Frozen):
    """What was done about the application, and how it is. ``health`` is the last time it was asked."""

    hooks: tuple[HookResult, ...] = ()
    health: HealthResult | None = None
    watch: WatchResult | None = None
