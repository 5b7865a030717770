"""Which task comes next: of those that may begin, the one with the most work behind it."""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lastgood.dump.names import Relation
from lastgood.dump.script import Section
from lastgood.dump.summary import DumpSummary
from lastgood.engine.costs import CHEAP, Costs
from lastgood.engine.graph import tasks_of
from lastgood.engine.tasks import Lock, Task, Work, analyzed_last, conflict

IN_STREAM = (Work.ROWS, Work.DATA)
_Heap = list[tuple[float, int]]

# Cheap tasks are handed out several at a time: asking for them, and a message to the server for each, would cost more.
AT_ONCE = 24


class Schedule:
    """Hands out tasks so that none begins before those that it waits for, and none that would wait for another's lock.

    ``in_order``: sections of rows come out of one stream, so they are begun in their order, and before all else. Not
    thread-safe: its user holds a lock.
    """

    def __init__(self, tasks: Sequence[Task], *, in_order: bool = False, cheap: float = CHEAP) -> None:
        self._cheap = cheap
        self._tasks = {task.number: task for task in tasks}
        self._missing = {task.number: len(task.after) for task in tasks}
        self._followers: defaultdict[int, list[int]] = defaultdict(list)
        for task in tasks:
            for number in task.after:
                self._followers[number].append(task.number)
        # Tasks of different kinds wait apart, so that those which can't begin are not looked at again and again.
        self._ready: _Heap = []
        self._ready_serial: _Heap = []
        self._stream = [t.number for t in tasks if in_order and t.work in IN_STREAM][::-1]
        self._in_stream = frozenset(self._stream)
        self._held: defaultdict[Relation, list[Lock]] = defaultdict(list)
        self._serial = False
        self._left = len(tasks)
        for task in tasks:
            if not task.after:
                self._push(task)

    @property
    def finished(self) -> bool:
        """Whether every task is done."""
        return self._left == 0

    def take_some(self) -> list[Task]:
        """The next task, begun, or several that are cheap; none when none can begin until another is done."""
        first = self.take()
        taken = [] if first is None else [first]
        if first is not None and first.cost <= self._cheap:
            while len(taken) < AT_ONCE and (another := self.take(most=self._cheap)) is not None:
                taken.append(another)
        return taken

    def take(self, *, most: float = math.inf) -> Task | None:
        """The next task, begun; None when none can begin until another is done, or when it costs more than ``most``."""
        found = self._next_of_stream() if most == math.inf else None
        if found is None:
            heaps = [self._ready] if self._serial else [self._ready, self._ready_serial]
            for heap in sorted(heaps, key=lambda heap: heap[0] if heap else (0.0, 0)):
                found = self._first_of(heap, most)
                if found is not None:
                    break
            else:
                return None
        for relation, lock in found.locks.items():
            self._held[relation].append(lock)
        self._serial = self._serial or found.serial
        return found

    def done(self, task: Task) -> None:
        """Takes note that a task is done, and that others may begin."""
        for relation, lock in task.locks.items():
            self._held[relation].remove(lock)
        if task.serial:
            self._serial = False
        self._left -= 1
        for number in self._followers[task.number]:
            self._missing[number] -= 1
            if not self._missing[number]:
                self._push(self._tasks[number])

    def _push(self, task: Task) -> None:
        if task.number not in self._in_stream:
            heapq.heappush(self._ready_serial if task.serial else self._ready, (-task.rank, task.number))

    def _next_of_stream(self) -> Task | None:
        if not self._stream or self._missing[self._stream[-1]]:
            return None
        task = self._tasks[self._stream[-1]]
        if not self._may_begin(task):
            return None
        self._stream.pop()
        return task

    def _first_of(self, heap: _Heap, most: float) -> Task | None:
        """Takes the first of a heap that meets no lock, if it costs no more than ``most``. What would be done in an
        instant is not overtaken by what it would then have to wait for: much may hang on it."""
        passed: _Heap = []
        instant: list[Task] = []
        found = None
        while heap and found is None and self._tasks[heap[0][1]].cost <= most:
            entry = heapq.heappop(heap)
            task = self._tasks[entry[1]]
            if self._may_begin(task) and not any(_meet(task, other) for other in instant):
                found = task
            else:
                passed.append(entry)
                if task.cost <= self._cheap:
                    instant.append(task)
        for entry in passed:
            heapq.heappush(heap, entry)
        return found

    def _may_begin(self, task: Task) -> bool:
        return not any(
            conflict(lock, held) for relation, lock in task.locks.items() for held in self._held.get(relation, ())
        )


def _meet(one: Task, other: Task) -> bool:
    """Whether two tasks would wait for each other's locks."""
    return any(
        relation in other.locks and conflict(lock, other.locks[relation]) for relation, lock in one.locks.items()
    )


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a schedule would take: seconds from begin to end, and of work, all on one worker; and when the last task of
    each kind would end."""

    seconds: float
    work: float
    ends: Mapping[Work, float]


def simulate(tasks: Iterable[Task], workers: int, *, in_order: bool = False) -> Forecast:
    """How long ``workers`` would take for the tasks if each took just its cost, by the same rules. ``in_order`` as for
    a Schedule: the one stream gives one section at a time."""
    tasks = list(tasks)
    schedule = Schedule(tasks, in_order=in_order)
    now = stream = 0.0
    busy: list[tuple[float, int, Task]] = []
    ends: dict[Work, float] = {}
    while not schedule.finished:
        while len(busy) < workers and (task := schedule.take()) is not None:
            begin = now
            if in_order and task.work in IN_STREAM:
                begin = max(now, stream)
                stream = begin + task.cost
            heapq.heappush(busy, (begin + task.cost, task.number, task))
        now, _, done = heapq.heappop(busy)
        ends[done.work] = now
        schedule.done(done)
    return Forecast(now, sum(task.cost for task in tasks), ends)


def forecast(summary: DumpSummary, costs: Costs, workers: int, *, in_order: bool) -> float:
    """Seconds that a whole load would take; and then the reading of those rows that no task reads back."""
    script = summary.script
    tasks = tasks_of(script.items, summary, workers=workers, costs=costs)
    read = {item.number for task in tasks if task.work is Work.READ for item in task.items if isinstance(item, Section)}
    unread = sum(section.size for section in script.sections if section.number not in read)
    # One by one, each line digested: about twice the cost of a whole table.
    return (
        simulate(tasks, workers, in_order=in_order).seconds
        + analyzed_last(script, summary, costs) / workers
        + 2 * unread * costs.read_byte
    )
