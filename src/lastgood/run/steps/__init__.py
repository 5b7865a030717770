"""The steps of a rollback: the plan, the run, its report and ``explain`` iterate ``STAGES``, the only list of them.

A new step is a module in this package and a line in ``STAGES``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from lastgood.plan.plan import PlannedStep, Request, Way
from lastgood.run.context import Run
from lastgood.run.runner import Step
from lastgood.run.steps.build import Build
from lastgood.run.steps.carry_over import CarryOver
from lastgood.run.steps.emergency import Emergency
from lastgood.run.steps.fence import Fence, FenceInPlace
from lastgood.run.steps.finish import Finish
from lastgood.run.steps.in_place import Answer, BuildSchemas, Move, ProveSchemas
from lastgood.run.steps.prove import Prove
from lastgood.run.steps.reopen import Reopen
from lastgood.run.steps.service import Checks, Start, Stop
from lastgood.run.steps.swap import Swap
from lastgood.run.steps.watch import Before, Watch


class RollbackStep(Step[Run], Protocol):
    """A step of a rollback, with its line of the plan."""

    def planned(self, request: Request) -> PlannedStep | None:
        """Describe this step in the plan: a title, and the effect on readers and writers. None where a run of
        ``request`` skips the step, or the plan need not mention it."""


Stages = Sequence[Sequence[Sequence[RollbackStep]]]

# Stages run one after the other, the lanes of a stage in parallel, the steps of a lane in order. A run skips the steps
# whose ``wanted`` is false.
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


# What is different in a rollback in place. Owners and grants are those of the restore point, and the database with its
# settings is not replaced: there is nothing to carry over.
IN_PLACE: Mapping[str, RollbackStep | None] = {
    Fence.name: FenceInPlace(),
    Build.name: BuildSchemas(),
    CarryOver.name: None,
    Prove.name: ProveSchemas(),
    Swap.name: Move(),
    Reopen.name: Answer(),
}


def stages(way: Way | None = "by-name") -> Stages:
    """The stages of a rollback by name or in place."""
    if way != "in-place":
        return STAGES
    replaced = [[[IN_PLACE.get(step.name, step) for step in lane] for lane in lanes] for lanes in STAGES]
    return [[[step for step in lane if step is not None] for lane in lanes] for lanes in replaced]


def every(way: Way | None = "by-name") -> Iterator[RollbackStep]:
    """The steps of all stages, in order."""
    return (step for lanes in stages(way) for lane in lanes for step in lane)


def planned(request: Request) -> tuple[PlannedStep, ...]:
    """The lines of the plan of ``request``."""
    found = (step.planned(request) for step in every(request.way))
    return tuple(each for each in found if each is not None)


def commit_point(way: Way) -> Swap:
    """The step that switches."""
    return next(step for step in every(way) if isinstance(step, Swap))


def after_commit(way: Way = "by-name") -> Stages:
    """The stages behind the commit point: the rest of a run that has switched."""
    all_of_them = stages(way)
    commits = next(
        number for number, lanes in enumerate(all_of_them) if any(step.commits for lane in lanes for step in lane)
    )
    return all_of_them[commits + 1 :]


def titles() -> Mapping[str, str]:
    """Return the title of every step by name, for journals without titles."""
    return {step.name: step.title for step in every()}
