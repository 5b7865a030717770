"""What is left of a load, by a scripted clock."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from lastgood.dump.entries import RowsStart
from lastgood.dump.names import Relation
from lastgood.dump.script import Section
from lastgood.load.costs import Effort
from lastgood.load.estimate import Estimate
from lastgood.load.schedule import Schedule, simulate
from lastgood.load.tasks import Task, Work, ranked


def load_of(*costs: tuple[Work, float]) -> list[Task]:
    """One after the other, with these costs."""
    return ranked([Task(n, work, (), after={n - 1} if n else set(), cost=cost) for n, (work, cost) in enumerate(costs)])


def side_by_side(*costs: float) -> list[Task]:
    return ranked([Task(n, Work.INDEX, (), cost=cost) for n, cost in enumerate(costs)])


def played(tasks: list[Task], workers: int, *, really: float, step: float = 0.1) -> Iterator[tuple[float, float]]:
    """Simulate a load in which each task takes ``really`` times its cost: for each moment the estimated and the true
    remaining seconds."""
    estimate = Estimate(tasks, workers, in_order=False, now=0.0)
    schedule = Schedule(tasks)
    running: list[tuple[float, Task]] = []
    moments: list[tuple[float, float]] = []
    now = 0.0
    while True:
        for end, task in [each for each in running if each[0] <= now]:
            running.remove((end, task))
            estimate.done(task, now)
            schedule.done(task)
        while len(running) < workers and (taken := schedule.take()) is not None:
            estimate.begin(taken, now)
            running.append((now + taken.cost * really, taken))
        if schedule.finished:
            break
        moments.append((now, estimate.left(now).seconds))
        now += step
    for moment, shown in moments:
        yield shown, now - moment


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_what_goes_as_expected_is_counted_down(workers: int) -> None:
    for shown, true in played(side_by_side(*[2.0] * 12), workers, really=1.0):
        assert shown == pytest.approx(true, abs=0.7)  # each task is seen to end up to 0.1 s late


@pytest.mark.parametrize("really", [0.3, 3.0])
def test_what_goes_otherwise_is_believed_step_by_step(really: float) -> None:
    found = list(played(side_by_side(*[1.0] * 60), 2, really=really))
    for shown, true in found[len(found) // 2 :]:
        assert shown == pytest.approx(true, rel=0.25, abs=1.0)
    # No jump: from one moment to the next at most a tenth of the estimate, except for the last moments.
    for (before, _), (after, _) in pairwise(found):
        assert abs(after - before) < max(0.5, before / 10)


@pytest.mark.parametrize("really", [0.5, 1.0, 2.0])
def test_for_thousands_of_tasks_the_sum_is_as_accurate(really: float) -> None:
    found = list(played(side_by_side(*[0.2] * 3000), 3, really=really, step=really / 5))
    for shown, true in found[len(found) // 3 :]:
        assert shown == pytest.approx(true, rel=0.1, abs=1.0)


def test_a_long_chain_among_thousands_of_tasks_counts() -> None:
    chain = [Task(n, Work.INDEX, (), after={n - 1} if n else set(), cost=100.0) for n in range(3)]
    tasks = ranked([*chain, *(Task(n, Work.INDEX, (), cost=0.01) for n in range(3, 3000))])
    estimate = Estimate(tasks, 4, in_order=False, now=0.0)
    assert estimate.left(0.0).seconds == pytest.approx(300.0)
    estimate.begin(tasks[0], 0.0)
    for tenth in range(500):
        left = estimate.left(tenth / 10)
    assert left.seconds == pytest.approx(250.0, rel=0.01)


def test_a_chain_takes_its_length_however_many_workers_there_are() -> None:
    tasks = load_of((Work.ROWS, 4.0), (Work.INDEX, 2.0), (Work.KEY, 1.0))
    estimate = Estimate(tasks, 8, in_order=False, now=100.0)
    left = estimate.left(100.0)
    assert left.seconds == pytest.approx(7.0)
    assert left.until == pytest.approx({Work.ROWS: 4.0, Work.INDEX: 6.0, Work.KEY: 7.0})
    assert left.share == 0.0


def test_the_progress_of_rows_shows_their_duration() -> None:
    tasks = load_of((Work.ROWS, 10.0), (Work.INDEX, 10.0))
    estimate = Estimate(tasks, 1, in_order=False, now=0.0)
    estimate.begin(tasks[0], 0.0)
    # Half as fast as expected.
    for tenth in range(1, 100):
        estimate.move(tasks[0], tenth / 200)
        left = estimate.left(tenth / 10)
    # Rows take twice as long; so will the index, as nothing else is known of it.
    assert left.seconds == pytest.approx(10.1 + 20, rel=0.15)
    assert left.share == pytest.approx(9.9 / (9.9 + left.seconds))


def test_what_takes_longer_than_expected_is_still_left() -> None:
    tasks = load_of(
        (Work.INDEX, 1.0),
    )
    estimate = Estimate(tasks, 1, in_order=False, now=0.0)
    estimate.begin(tasks[0], 0.0)
    for tenth in range(101):
        left = estimate.left(tenth / 10)
    assert 0.5 < left.seconds < 1.5
    assert left.share < 1.0


def test_the_share_never_falls_and_ends_with_one() -> None:
    tasks = side_by_side(1.0, 1.0)
    estimate = Estimate(tasks, 1, in_order=False, now=0.0)
    shares = []
    for number, (task, took) in enumerate(zip(tasks, (0.2, 30.0), strict=True)):
        estimate.begin(task, number * 0.2)
        for tenth in range(round(took * 10)):
            shares.append(estimate.left(number * 0.2 + tenth / 10).share)
        estimate.done(task, number * 0.2 + took)
    assert shares == sorted(shares)
    assert shares[-1] < 1.0
    estimate.end()
    left = estimate.left(31.0)
    assert (left.seconds, left.share) == (0.0, 1.0)


def test_unrepresentative_work_is_not_learned() -> None:
    tasks = side_by_side(1.0, 2.0, 1.0)
    estimate = Estimate(tasks, 1, in_order=False, now=0.0)
    estimate.begin(tasks[0], 0.0)
    estimate.done(tasks[0], 5.0, 0.0)
    estimate.begin(tasks[1], 5.0)
    estimate.done(tasks[1], 8.0, 0.5)
    estimate.done(tasks[2], 9.0)  # which never had anything to do
    assert set(estimate.spent) == {Effort.INDEX}
    assert (estimate.spent[Effort.INDEX].actual, estimate.spent[Effort.INDEX].expected) == (3.0, 1.0)


def test_one_stream_gives_one_section_at_a_time() -> None:
    tasks = ranked(
        [
            Task(
                n,
                Work.ROWS,
                (Section(n, RowsStart(Relation("public", f"t{n}"), (), b"", 0, 1), 1, 1, 0, ()),),
                cost=2.0,
            )
            for n in range(3)
        ]
    )
    assert simulate(tasks, 3).seconds == 2.0
    assert simulate(tasks, 3, in_order=True).seconds == 6.0
