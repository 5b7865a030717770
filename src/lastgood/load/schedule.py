"""Which task comes next: of those that may begin, the one with the most work behind it."""

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

# Cheap tasks are handed out several at a time: asking for them, and a message to the server for each, would cost more.
AT_ONCE = 24


@dataclass(slots=True)
class _Table:
    """One table: ``held`` are the locks on it, with how many tasks hold each. ``waiting`` are the tasks that could
    begin but for a lock on it, by that lock and by whether they are cheap. ``called`` is the rank of the task of such a
    queue that is tried next. ``wanted``: many tasks need it, so all of them wait here for their turn.
    """

    wanted: bool = False
    held: dict[Lock, int] = field(default_factory=dict)
    waiting: defaultdict[_Queue, _Heap] = field(default_factory=lambda: defaultdict(list))
    called: dict[_Queue, float] = field(default_factory=dict)

    def takes(self, lock: Lock, *, own: int = 0) -> bool:
        """Whether nothing that is held conflicts, except what ``own`` tasks of the same session hold."""
        return not any(conflict(lock, other) for other in self.held) or (own > 0 and own == sum(self.held.values()))

    def is_kept(self, lock: Lock, key: float) -> bool:
        """Whether a cheap task waits here that would have to wait for ``lock``, and that more hangs on."""
        return any(
            cheap and queue and queue[0][0] < key and conflict(lock, other)
            for (other, cheap), queue in self.waiting.items()
        )


class Schedule:
    """Hands out tasks so that none begins before those that it waits for, and none that would wait for another's lock.

    A task that could begin but for a lock waits at that table, and is tried again when the table is released: first the
    one with the most work behind it, then the next, as long as they get what they need. So the thousands that want one
    table are not looked at each time that a task is handed out.

    What would be done in an instant is not overtaken by what takes long and would hold its lock: much may hang on it.

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
        # What must not run side by side with its like waits apart.
        self._ready: _Heap = []
        self._ready_serial: _Heap = []
        self._stream = [t.number for t in tasks if in_order and t.work in IN_STREAM][::-1]
        self._in_stream = frozenset(self._stream)
        uses = Counter(relation for task in tasks for relation in task.locks)
        self._tables = {relation: _Table(count > AT_ONCE) for relation, count in uses.items()}
        self._locks = {
            task.number: tuple((self._tables[relation], lock) for relation, lock in task.locks.items())
            for task in tasks
        }
        self._called: dict[int, tuple[_Table, _Queue]] = {}  # tasks that are tried next of those that wait at a table
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
        """The next task, begun, or several that are cheap, to be done one behind the other; none when none can begin
        until another is done. Several that want one table go to one session: so they do not wait for each other."""
        first = self.take()
        if first is None:
            return []
        taken = [first]
        wanted = next((table for table, _ in self._locks[first.number] if table.wanted), None)
        own = Counter(id(table) for table, _ in self._locks[first.number])
        while taken[-1].cost <= self._cheap and len(taken) < AT_ONCE:
            # What changes the catalogue in small ways may follow its like in one session.
            serial = self._serial and not any(task.serial for task in taken)
            another = self._next(self._cheap, serial) if wanted is None else self._next_at(wanted, own, serial)
            if another is None:
                break
            taken.append(another)
            own.update(id(table) for table, _ in self._locks[another.number])
        return taken

    def take(self) -> Task | None:
        """The next task, begun; None when none can begin until another is done."""
        found = self._next_of_stream()
        return self._next(math.inf, self._serial) if found is None else self._begin(found)

    def _next(self, most: float, serial: bool) -> Task | None:
        """The next one that costs no more than ``most``, and that may run beside one that is ``serial``."""
        while (heap := self._first_heap(most, serial)) is not None:
            task = self._tasks[heapq.heappop(heap)[1]]
            stop = self._stop_of(task)
            if stop is None:
                return self._begin(task)
            self._wait(task, *stop)
        return None

    def done(self, task: Task) -> None:
        """Takes note that a task is done, and that others may begin."""
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
        """A task has nothing more to wait for but locks."""
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

    def _wait(self, task: Task, table: _Table, lock: Lock) -> None:
        heapq.heappush(table.waiting[lock, task.cost <= self._cheap], (-task.rank, task.number))
        self._answered(task)

    def _answered(self, task: Task) -> None:
        """A task that was called has begun, or waits: the next one of its queue is called."""
        called = self._called.pop(task.number, None)
        if called is not None:
            table, queue = called
            del table.called[queue]
            self._call(table)

    def _call(self, table: _Table) -> None:
        """Try the first one of each queue, cheap ones first, whose lock the table would take now."""
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

    def _stop_of(self, task: Task) -> tuple[_Table, Lock] | None:
        """The table at which a task has to wait, and for which lock."""
        for table, lock in self._locks[task.number]:
            if not table.takes(lock) or (task.cost > self._cheap and table.is_kept(lock, -task.rank)):
                return table, lock
        return None

    def _next_at(self, table: _Table, own: Mapping[int, int], serial: bool) -> Task | None:
        """A cheap task, begun, of those that wait at a table, for a session that holds ``own`` locks."""
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
