"""The steps of a rollback, in order: the only list of them. The plan, the run, its report and ``explain`` iterate it.

A new step is a module here and a line in ``STAGES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from lastgood.plan.plan import PlannedStep, Request
from lastgood.run.context import Run
from lastgood.run.runner import Step
from lastgood.run.steps.build import Build
from lastgood.run.steps.carry_over import CarryOver
from lastgood.run.steps.emergency import Emergency
from lastgood.run.steps.fence import Fence
from lastgood.run.steps.finish import Finish
from lastgood.run.steps.prove import Prove
from lastgood.run.steps.reopen import Reopen
from lastgood.run.steps.service import Checks, Start, Stop
from lastgood.run.steps.swap import Swap
from lastgood.run.steps.watch import Before, Watch


class RollbackStep(Step[Run], Protocol):
    """A step of a rollback, which also says how the plan shows it."""

    def planned(self, request: Request) -> PlannedStep | None:
        """What the plan promises of it: a title, and its effect on readers and writers. None where a run of ``request``
        leaves it out, or nobody notices it."""


Stages = Sequence[Sequence[Sequence[RollbackStep]]]

# The stages one after the other; in each, lanes that run at the same time. A run leaves out the steps that do not want
# to be part of it.
STAGES: Stages = (
    [[Before()]],
    [[Stop("now")]],
    [[Fence()]],
    [[Emergency()], [Build(), CarryOver(), Prove()]],
    [[Stop("at-swap")]],
    [[Swap()]],
    [[Reopen()]],
    [[Start()]],
    [[Checks()]],
    [[Watch()]],
    [[Finish()]],
)


def every() -> Iterator[RollbackStep]:
    """The steps of all stages, in order."""
    return (step for lanes in STAGES for lane in lanes for step in lane)


def planned(request: Request) -> tuple[PlannedStep, ...]:
    """The steps that a run of ``request`` takes, as the plan shows them."""
    found = (step.planned(request) for step in every())
    return tuple(each for each in found if each is not None)


def after_commit() -> Stages:
    """The stages behind the commit point: all that is left to do of a run that has switched."""
    commits = next(
        number for number, lanes in enumerate(STAGES) if any(step.commits for lane in lanes for step in lane)
    )
    return STAGES[commits + 1 :]


def titles() -> Mapping[str, str]:
    """Name → title of every step, for a journal that has the names alone."""
    return {step.name: step.title for step in every()}
