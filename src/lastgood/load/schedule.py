"""The order of tasks: of those that may begin, the one with the most work behind it comes next."""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lastgood.dump.script import Section
from lastgood.dump.summary import DumpSummary
from lastgood.load.costs import CHEAP, Costs
from lastgood.load.graph import tasks_of
from lastgood.load.tasks import Lock, Task, Work, analyzed_last, conflict

IN_STREAM = (Work.ROWS, Work.DATA)
_Heap = list[tuple[float, int]]
_Queue = tuple[Lock, bool]

# Cheap tasks are assigned several at a time: a request and a message to the server for each would cost more.
AT_ONCE = 24


@dataclass(slots=True)
class _TableLocks:
    """The state of one table. ``held``: the locks on it, with the number of tasks that hold each. ``waiting``: the
    tasks that wait only for a lock on it, by that lock and by whether they are cheap. ``called``: the rank of the task
    in such a queue that is tried next. ``wanted``: many tasks need it, so all of them queue here.
    """

    wanted: bool = False
    held: dict[Lock, int] = field(default_factory=dict)
    waiting: defaultdict[_Queue, _Heap] = field(default_factory=lambda: defaultdict(list))
    called: dict[_Queue, float] = field(default_factory=dict)

    def takes(self, lock: Lock, *, own: int = 0) -> bool:
        """Whether no held lock conflicts, except those that ``own`` tasks of the same session hold."""
        return not any(conflict(lock, other) for other in self.held) or (own > 0 and own == sum(self.held.values()))

    def is_kept(self, lock: Lock, key: float) -> bool:
        """Whether a cheap task with a higher rank waits here that ``lock`` would block."""
        return any(
            cheap and queue and queue[0][0] < key and conflict(lock, other)
            for (other, cheap), queue in self.waiting.items()
        )


class Schedule:
    """The scheduler: a task begins only after its predecessors, and only if it would not wait for another task's lock.

    A task that only lacks a lock waits at that table, and is tried again when the table is released: first the task
    with the most work behind it, then the next, while they get their locks. So thousands of tasks on one table are not
    examined each time that a task is assigned.

    A long task does not overtake a cheap one whose lock it would block: much work may depend on the cheap one.

    ``in_order``: sections of rows come from one stream, so they begin in their order, and before all other tasks. Not
    thread-safe: the caller holds a lock.
    """

    def __init__(self, tasks: Sequence[Task], *, in_order: bool = False, cheap: float = CHEAP) -> None:
        self._cheap = cheap
        self._tasks = {task.number: task for task in tasks}
        self._missing = {task.number: len(task.after) for task in tasks}
        self._followers: defaultdict[int, list[int]] = defaultdict(list)
        for task in tasks:
            for number in task.after:
                self._followers[number].append(task.number)
        # Serial tasks, which must not run in parallel, have a queue of their own.
        self._ready: _Heap = []
        self._ready_serial: _Heap = []
        self._stream = [t.number for t in tasks if in_order and t.work in IN_STREAM][::-1]
        self._in_stream = frozenset(self._stream)
        uses = Counter(relation for task in tasks for relation in task.locks)
        self._tables = {relation: _TableLocks(count > AT_ONCE) for relation, count in uses.items()}
        self._locks = {
            task.number: tuple((self._tables[relation], lock) for relation, lock in task.locks.items())
            for task in tasks
        }
        self._called: dict[int, tuple[_TableLocks, _Queue]] = {}  # heads of queues: tasks that are tried next
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
        """Begin the next task, or several cheap ones, to be done in sequence; none if all have to wait for running
        tasks. Several tasks on one table go to one session, so that they do not wait for each other."""
        first = self.take()
        if first is None:
            return []
        taken = [first]
        wanted = next((table for table, _ in self._locks[first.number] if table.wanted), None)
        own = Counter(id(table) for table, _ in self._locks[first.number])
        while taken[-1].cost <= self._cheap and len(taken) < AT_ONCE:
            # Serial tasks may follow each other in one session.
            serial = self._serial and not any(task.serial for task in taken)
            another = self._next(self._cheap, serial) if wanted is None else self._next_at(wanted, own, serial)
            if another is None:
                break
            taken.append(another)
            own.update(id(table) for table, _ in self._locks[another.number])
        return taken

    def take(self) -> Task | None:
        """Begin the next task; None if all have to wait for running tasks."""
        found = self._next_of_stream()
        return self._next(math.inf, self._serial) if found is None else self._begin(found)

    def _next(self, most: float, serial: bool) -> Task | None:
        """Begin the next task that costs at most ``most``, and that may run in parallel with a ``serial`` one."""
        while (heap := self._first_heap(most, serial)) is not None:
            task = self._tasks[heapq.heappop(heap)[1]]
            stop = self._stop_of(task)
            if stop is None:
                return self._begin(task)
            self._wait(task, *stop)
        return None

    def done(self, task: Task) -> None:
        """Record that a task is done, so that others may begin."""
        for table, lock in self._locks[task.number]:
            table.held[lock] -= 1
            if not table.held[lock]:
                del table.held[lock]
            self._call(table)
        if task.serial:
            self._serial = False
        self._left -= 1
        for number in self._followers[task.number]:
            self._missing[number] -= 1
            if not self._missing[number]:
                self._push(self._tasks[number])

    def _first_heap(self, most: float, serial: bool) -> _Heap | None:
        heaps = (self._ready,) if serial else (self._ready, self._ready_serial)
        fit = [heap for heap in heaps if heap and self._tasks[heap[0][1]].cost <= most]
        return min(fit, key=lambda heap: heap[0], default=None)

    def _push(self, task: Task) -> None:
        """Queue a task that waits only for locks."""
        if task.number in self._in_stream:
            return
        for table, lock in self._locks[task.number]:
            if table.wanted:
                queue = (lock, task.cost <= self._cheap)
                if task.rank <= table.called.get(queue, -math.inf) or not table.takes(lock):
                    heapq.heappush(table.waiting[queue], (-task.rank, task.number))
                    return
                if queue not in table.called:
                    self._called[task.number] = (table, queue)
                    table.called[queue] = task.rank
                break
        self._try(task)

    def _try(self, task: Task) -> None:
        heapq.heappush(self._ready_serial if task.serial else self._ready, (-task.rank, task.number))

    def _begin(self, task: Task) -> Task:
        for table, lock in self._locks[task.number]:
            table.held[lock] = table.held.get(lock, 0) + 1
        self._serial = self._serial or task.serial
        self._answered(task)
        return task

    def _wait(self, task: Task, table: _TableLocks, lock: Lock) -> None:
        heapq.heappush(table.waiting[lock, task.cost <= self._cheap], (-task.rank, task.number))
        self._answered(task)

    def _answered(self, task: Task) -> None:
        """Call the next task of a queue, after the called one has begun or waits elsewhere."""
        called = self._called.pop(task.number, None)
        if called is not None:
            table, queue = called
            del table.called[queue]
            self._call(table)

    def _call(self, table: _TableLocks) -> None:
        """Try the first task of each queue, cheap queues first, whose lock is free now."""
        if not table.waiting:
            return
        for queue in sorted(table.waiting, key=lambda queue: not queue[1]):
            waiting = table.waiting[queue]
            if not waiting or queue in table.called or not table.takes(queue[0]):
                continue
            if not queue[1] and table.is_kept(queue[0], waiting[0][0]):
                continue
            key, number = heapq.heappop(waiting)
            self._called[number] = (table, queue)
            table.called[queue] = -key
            self._try(self._tasks[number])

    def _stop_of(self, task: Task) -> tuple[_TableLocks, Lock] | None:
        """The table and lock for which a task has to wait."""
        for table, lock in self._locks[task.number]:
            if not table.takes(lock) or (task.cost > self._cheap and table.is_kept(lock, -task.rank)):
                return table, lock
        return None

    def _next_at(self, table: _TableLocks, own: Mapping[int, int], serial: bool) -> Task | None:
        """Begin a cheap task that waits at a table, for a session that holds ``own`` locks."""
        for (_, cheap), waiting in table.waiting.items():
            while cheap and waiting and table.held and own.get(id(table)) == sum(table.held.values()):
                task = self._tasks[waiting[0][1]]
                if task.serial and serial:
                    break
                heapq.heappop(waiting)
                stops = (
                    (other, lock)
                    for other, lock in self._locks[task.number]
                    if not other.takes(lock, own=own.get(id(other), 0))
                )
                stop = next(stops, None)
                if stop is None:
                    return self._begin(task)
                self._wait(task, *stop)
        return None

    def _next_of_stream(self) -> Task | None:
        if not self._stream or self._missing[self._stream[-1]]:
            return None
        task = self._tasks[self._stream[-1]]
        if self._stop_of(task) is not None:
            return None
        self._stream.pop()
        return task


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast of a schedule: elapsed seconds, seconds of work on one worker, and the end of the last task of each
    kind."""

    seconds: float
    work: float
    ends: Mapping[Work, float]


def simulate(tasks: Iterable[Task], workers: int, *, in_order: bool = False) -> Forecast:
    """The time that ``workers`` would take if each task took exactly its cost, by the same rules. ``in_order`` as for a
    Schedule: the stream gives one section at a time."""
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
    """The seconds of a whole load, plus the read of all rows that no task reads back."""
    script = summary.script
    tasks = tasks_of(script.items, summary, workers=workers, costs=costs)
    read = {item.number for task in tasks if task.work is Work.READ for item in task.items if isinstance(item, Section)}
    unread = sum(section.size for section in script.sections if section.number not in read)
    # In sequence, each line digested: about twice the cost of reading a table as a whole.
    return (
        simulate(tasks, workers, in_order=in_order).seconds
        + analyzed_last(script, summary, costs) / workers
        + 2 * unread * costs.read_byte
    )
