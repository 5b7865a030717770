"""The bar for a whole run."""

from __future__ import annotations

import pytest

from lastgood.events import ExpectedStages, Progress, StageDone
from lastgood.screen.overall import Overall

STEPS = ("fence", "emergency", "build", "prove", "swap")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_the_time_left_comes_from_earlier_runs_and_then_from_the_load(clock: Clock) -> None:
    bar = Overall(ExpectedStages(STEPS, "build", seconds=40.0), clock)
    assert bar.line({}) == "overall [------------------------] 0 %, 0 of 5 steps done, about 40 s left"
    bar.follow(StageDone("fence", 0.1))
    clock.now += 10
    assert bar.line({}) == "overall [######------------------] 25 %, 1 of 5 steps done, about 30 s left"
    load = {"build": Progress("build", 1, 2, "bytes", seconds_left=10.0)}
    assert bar.line(load) == "overall [############------------] 50 %, 1 of 5 steps done, about 10 s left"
    # A worse estimate does not take back what was shown.
    worse = {"build": Progress("build", 1, 2, "bytes", seconds_left=90.0)}
    assert bar.line(worse) == "overall [############------------] 50 %, 1 of 5 steps done, about 1 min 30 s left"
    for name in ("emergency", "build"):
        bar.follow(StageDone(name, 1.0))
    assert bar.line({}) == "overall [##############----------] 60 %, 3 of 5 steps done"


def test_without_an_estimate_it_counts_steps(clock: Clock) -> None:
    bar = Overall(ExpectedStages(STEPS, "build"), clock)
    bar.follow(StageDone("fence", 0.1))
    bar.follow(StageDone("plan", 0.1))  # not a step of the run
    half = {"emergency": Progress("emergency", 50, 100, "bytes"), "build": Progress("build", 5, None, "rows")}
    assert bar.line(half) == "overall [#######-----------------] 30 %, 1 of 5 steps done"
    assert len(bar.line(half)) < 80
