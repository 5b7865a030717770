"""The remaining time of a load: a simulation of the remaining tasks with the actual costs so far."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from lastgood.load.costs import CHEAP, Effort, Spent
from lastgood.load.schedule import simulate
from lastgood.load.tasks import Task, Work, effort_of

EVERY_SECONDS = 0.5
# A simulation takes some 25 µs for a task: with so many it costs a twentieth of one processor at the most. With more
# tasks all workers are busy to the end, so the sum is as accurate.
MOST_SIMULATED = 1000
# The share of the work that counts as having taken the expected time, so that the first tasks do not dominate.
TRUST = 0.05
LEAST_TRUST = 0.2
NOT_YET_ALL = 0.999
_BY_SIZE = frozenset({Effort.ROWS, Effort.READ, Effort.INDEX, Effort.KEY})
# A task with all of its known work done may have more to do (the statistics of a table, for example).
NEARLY_DONE = 0.97


@dataclass(frozen=True, slots=True)
class Left:
    """The remaining seconds, in total and for each kind of task where known. ``share``: the elapsed share of the total
    time."""

    seconds: float
    until: Mapping[Work, float]
    share: float


@dataclass(slots=True)
class _Running:
    since: float
    part: float | None = None  # the finished share of its work, if known


class Estimate:
    """An estimate of the remaining time, updated by events. Moments are seconds of any monotonic clock. Not
    thread-safe."""

    def __init__(
        self, tasks: Iterable[Task], workers: int, *, in_order: bool, now: float, cheap: float = CHEAP
    ) -> None:
        self._cheap = cheap
        self._left = {task.number: task for task in tasks}
        self._efforts = {task.number: effort_of(task) for task in self._left.values()}
        self._expected: defaultdict[Effort, float] = defaultdict(float)  # seconds of all remaining tasks
        for task in self._left.values():
            self._expected[self._efforts[task.number]] += task.cost
        self._workers = workers
        self._in_order = in_order
        self._begun = self._last = self._next = now
        self._running: dict[int, _Running] = {}
        self._trust = max(LEAST_TRUST, TRUST * sum(task.cost for task in self._left.values()))
        self._after = 0.0
        self._after_factor = 1.0
        self._forecast: tuple[float, float, Mapping[Work, float]] = (now, 0.0, {})
        self._shown: float | None = None
        self._share, self._most = 0.0, NOT_YET_ALL
        self.spent: defaultdict[Effort, Spent] = defaultdict(Spent)
        self.lessons: defaultdict[Effort, Spent] = defaultdict(Spent)

    def start(self, workers: int, now: float) -> None:
        """Start the clock, with ``workers`` workers."""
        self._workers = workers
        self._begun = self._last = self._next = now

    def begin(self, task: Task, now: float) -> None:
        """Record that a worker began a task."""
        self._running[task.number] = _Running(now)

    def move(self, task: Task, part: float) -> None:
        """Record the finished part of a running task, between 0 and 1."""
        self._running[task.number].part = min(NEARLY_DONE, part)

    def done(self, task: Task, now: float, part: float = 1.0, share: float = 1.0) -> None:
        """Record that a task is done. ``part``: its actual work as a share of the expected work; 0 means unknown.
        ``share``: the share of the time since its begin that was spent on it."""
        running = self._running.pop(task.number, None)
        if running is not None and part:
            effort, took = self._efforts[task.number], share * (now - running.since)
            self.spent[effort].add(took, task.cost * part)
            # The overhead dominates a small task, so it does not show what a row costs.
            if task.cost > self._cheap or effort not in _BY_SIZE:
                self.lessons[effort].add(took, task.cost * part)
        self._expected[self._efforts[task.number]] -= task.cost
        del self._left[task.number]

    def after(self, seconds: float) -> None:
        """Set the expected seconds of work after all tasks."""
        self._after = seconds

    def end(self) -> None:
        """Record that nothing is left."""
        self._after, self._next, self._shown = 0.0, math.inf, 0.0
        self._forecast = (self._last, 0.0, {})
        self._most = 1.0

    def left(self, now: float) -> Left:
        """The remaining time. It counts down, and approaches each new forecast without a jump."""
        if now >= self._next:
            self._simulate(now)
        when, seconds, until = self._forecast
        forecast = max(0.0, seconds - (now - when)) + self._after * self._after_factor
        passed, self._last = now - self._last, now
        if self._shown is None:
            self._shown = forecast
        else:
            self._shown = max(0.0, self._shown - passed)
            # The longer the remaining time, the slower the change: an estimate of hours need not change every second.
            patience = min(30.0, max(0.3, self._shown / 20))
            self._shown += (forecast - self._shown) * (1 - math.exp(-passed / patience))
        whole = now - self._begun + self._shown
        self._share = min(self._most, max(self._share, (now - self._begun) / whole if whole > 0 else self._most))
        scale = self._shown / forecast if forecast > 0 else 1.0
        return Left(
            self._shown, {work: max(0.0, end - (now - when)) * scale for work, end in until.items()}, self._share
        )

    def _simulate(self, now: float) -> None:
        factors = self._factors(now)
        self._after_factor = factors[Effort.STATISTICS]
        self._next = now + EVERY_SECONDS
        if len(self._left) > MOST_SIMULATED:
            self._forecast = now, self._summed(factors, now), {}
            return
        tasks = [self._as_left(task, factors[self._efforts[task.number]], now) for task in self._left.values()]
        forecast = simulate(tasks, self._workers, in_order=self._in_order)
        self._forecast = now, forecast.seconds, forecast.ends

    def _summed(self, factors: Mapping[Effort, float], now: float) -> float:
        """The lower bound of the schedule: all work divided among the workers, the longest chain, or the sequential
        work."""
        left = {effort: expected * factors[effort] for effort, expected in self._expected.items()}
        slower = sum(left.values()) / max(sum(self._expected.values()), 1e-9)
        gone: dict[int, float] = {}
        for number, running in self._running.items():
            task, effort = self._left[number], self._efforts[number]
            whole = task.cost * factors[effort]
            gone[number] = whole * running.part if running.part is not None else min(whole, now - running.since)
            left[effort] -= gone[number]
        one_by_one = left.get(Effort.ROWS, 0.0) + left.get(Effort.DATA, 0.0) if self._in_order else 0.0
        chain = max(task.rank * slower - gone.get(number, 0.0) for number, task in self._left.items())
        return max(sum(left.values()) / self._workers, one_by_one, chain)

    def _as_left(self, task: Task, factor: float, now: float) -> Task:
        after = {number for number in task.after if number in self._left}
        running = self._running.get(task.number)
        if running is None:
            return replace(task, after=after, cost=task.cost * factor)
        took = now - running.since
        # A task that exceeded its cost still needs a little time.
        rest = max(task.cost * factor - took, took / 10)
        if running.part is not None:
            rest = task.cost * factor * (1 - running.part)
        return replace(task, after=after, cost=rest, rank=math.inf)  # running tasks come first

    def _factors(self, now: float) -> Mapping[Effort, float]:
        """Actual seconds per expected second: for each kind of effort if it was measured, otherwise for all."""
        seen = {effort: Spent(spent.actual, spent.expected) for effort, spent in self.spent.items()}
        for number, running in self._running.items():
            if running.part is not None:
                task = self._left[number]
                seen.setdefault(self._efforts[number], Spent()).add(now - running.since, task.cost * running.part)
        actual, expected = sum(each.actual for each in seen.values()), sum(each.expected for each in seen.values())
        overall = (actual + self._trust) / (expected + self._trust)
        none = Spent()
        return {
            effort: (seen.get(effort, none).actual + self._trust * overall)
            / (seen.get(effort, none).expected + self._trust)
            for effort in Effort
        }
