"""The progress of a load's workers, and its display."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from lastgood.dump.script import Bulk, ScriptStep, Section
from lastgood.events import Emit, Phase, Progress
from lastgood.load.costs import Effort, Known, Spent
from lastgood.load.estimate import Estimate, Left
from lastgood.load.repairs import what
from lastgood.load.schedule import IN_STREAM
from lastgood.load.tasks import Task, Work

EVERY_SECONDS = 0.1
RATE_SECONDS = 5.0
# Without learned costs, no estimate is shown before this time and share of the load have passed.
SURE_AFTER_SECONDS = 3.0
SURE_AFTER_SHARE = 0.05


class Tracker:
    """Track tasks and emit Progress of the stage ``build``, at most ten times a second. Thread-safe. ``after``: the
    approximate seconds of one worker for the statistics after all tasks."""

    def __init__(
        self,
        tasks: Sequence[Task],
        workers: int,
        emit: Emit,
        *,
        known: Known,
        in_order: bool = False,
        after: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers = workers
        self._emit = emit
        self._clock = clock
        self._known, self._costs = known, known.costs
        self._in_order = in_order
        self._lock = threading.Lock()
        self._begun = self._next = clock()
        self._estimate = Estimate(tasks, workers, in_order=in_order, now=self._begun, cheap=known.costs.cheap)
        self._total = {work: _total(task for task in tasks if task.work is work) for work in _PHASES}
        self._done = dict.fromkeys(_PHASES, 0.0)
        self._moved: dict[int, int] = {}
        self._details: dict[int, str] = {}
        self._rows = 0.0
        self._rates: deque[tuple[float, int]] = deque([(self._begun, 0)])
        self._tables = self._tables_left = self._small_left = 0
        self._estimate.after(after / workers)

    def start(self, workers: int) -> None:
        """Record that the work begins, with ``workers`` workers."""
        with self._lock:
            self._workers = workers
            self._begun = self._clock()
            self._estimate.start(workers, self._begun)

    def begin(self, tasks: Sequence[Task]) -> None:
        """Record that a worker begins one or more tasks."""
        with self._lock:
            for task in tasks:
                if not (self._in_order and task.work in IN_STREAM):
                    self._estimate.begin(task, self._clock())
            self._details[tasks[0].number] = _named(tasks[0])
        self.report()

    def move(self, task: Task, size: int) -> None:
        """Add ``size`` bytes of rows to a running task."""
        with self._lock:
            if task.number not in self._moved and self._in_order and task.work in IN_STREAM:
                # Until now it waited for the earlier sections of the stream.
                self._estimate.begin(task, self._clock())
            self._moved[task.number] = self._moved.get(task.number, 0) + size
            self._estimate.move(task, self._part(task))
            self._count(task, size)
        self.report()

    def done(self, tasks: Sequence[Task]) -> None:
        """Record that tasks are done. Their time is divided among them in proportion to their expected costs."""
        with self._lock:
            now, whole = self._clock(), sum(task.cost for task in tasks)
            for task in tasks:
                self._estimate.done(task, now, self._part(task), task.cost / whole if len(tasks) > 1 else 1.0)
                if task.parts == 1:  # tasks that share a section have counted their bytes in ``move``
                    self._count(task, _size(task) - self._moved.get(task.number, 0))
                self._moved.pop(task.number, None)
            self._details.pop(tasks[0].number)
        self.report()

    def statistics(self, tables: int, small: int) -> None:
        """Record that all tasks are done, and ``tables`` tables, ``small`` of them small, lack statistics."""
        with self._lock:
            self._tables = self._tables_left = tables
            self._small_left = small
            self._details = {0: "statistics"} if tables else {}
            self._estimate.after(self._costs.analyzed(small, tables - small) / self._workers)
        self.report()

    def analyzed(self, tables: int, small: int, took: float) -> None:
        """Record that some of these tables have statistics now, and the seconds that they ``took``."""
        with self._lock:
            expected = self._costs.analyzed(small, tables - small)
            self._estimate.spent[Effort.STATISTICS].add(took, expected)
            if not small:
                self._estimate.lessons[Effort.STATISTICS].add(took, expected)
            self._tables_left -= tables
            self._small_left -= small
            left = self._costs.analyzed(self._small_left, self._tables_left - self._small_left)
            self._estimate.after(left / self._workers)
        self.report()

    def report(self, *, now: bool = False) -> None:
        """Emit the progress, if it is due or ``now`` is set."""
        with self._lock:
            moment = self._clock()
            if moment < self._next and not now:
                return
            self._next = moment + EVERY_SECONDS
            progress = self._progress(moment)
        self._emit(progress)

    def end(self) -> None:
        """Record that nothing is left."""
        with self._lock:
            self._details = {}
            self._estimate.end()
        self.report(now=True)

    def lessons(self) -> Mapping[Effort, Spent]:
        """The time of each kind of effort that reflects the server's speed."""
        with self._lock:
            return dict(self._estimate.lessons)

    @property
    def size(self) -> int:
        """Bytes of rows in the whole load."""
        return self._total[Work.ROWS]

    def _part(self, task: Task) -> float:
        """The share of its expected work that a task has done; 0 if unknown."""
        if task.work in (Work.ROWS, Work.READ):
            return self._moved.get(task.number, 0) / max(1, _size(task))
        return 0.0 if any(isinstance(item, Bulk) and item.end is None for item in task.items) else 1.0

    def _count(self, task: Task, size: float) -> None:
        self._done[task.work] = self._done.get(task.work, 0.0) + size
        if task.work is Work.ROWS and isinstance(item := task.items[0], Section) and item.size:
            self._rows += item.rows * size / item.size

    def _progress(self, now: float) -> Progress:
        left = self._estimate.left(now)
        sure = self._known.learned or (now - self._begun >= SURE_AFTER_SECONDS and left.share >= SURE_AFTER_SHARE)
        done = min(round(self._done[Work.ROWS]), self.size)
        while len(self._rates) > 1 and self._rates[1][0] <= now - RATE_SECONDS:
            self._rates.popleft()
        before, size = self._rates[0]
        self._rates.append((now, done))
        return Progress(
            "build",
            done,
            self.size,
            "bytes",
            round(self._rows),
            next(reversed(self._details.values()), ""),
            phases=tuple(self._phases(left, sure)),
            rate=round((done - size) / (now - before)) if now > before and done < self.size else None,
            seconds_left=round(left.seconds, 1) if sure else None,
            share=round(left.share, 4) if sure else None,
        )

    def _until(self, work: Work, left: Left) -> float | None:
        if work in left.until:
            return round(left.until[work], 1)
        return 0.0 if self._done[work] >= self._total[work] else None

    def _phases(self, left: Left, sure: bool) -> list[Phase]:
        found = [
            Phase(
                name,
                min(round(self._done[work]), self._total[work]),
                self._total[work],
                unit,
                self._until(work, left) if sure else None,
            )
            for work, (name, unit) in _PHASES.items()
            if self._total[work]
        ]
        if self._tables:
            rest = round(left.seconds, 1) if sure else None
            found.append(Phase("statistics", self._tables - self._tables_left, self._tables, "tables", rest))
        return found


_PHASES = {
    Work.ROWS: ("rows", "bytes"),
    Work.INDEX: ("indexes", "indexes"),
    Work.KEY: ("keys", "foreign keys"),
    Work.READ: ("reading back", "bytes"),
}


def _size(task: Task) -> float:
    """The size of a task in its phase: bytes of rows, or 1."""
    if task.work in (Work.ROWS, Work.READ) and isinstance(item := task.items[0], Section):
        return item.size / task.parts
    return 1


def _total(tasks: Iterable[Task]) -> int:
    """The size of a phase; several tasks may share a section."""
    whole = {(id(task.items[0]) if task.parts > 1 else task.number): _size(task) * task.parts for task in tasks}
    return round(sum(whole.values()))


_OF_ROWS = {Work.ROWS: "rows of", Work.READ: "reading back", Work.STATISTICS: "statistics of"}


def _named(task: Task) -> str:
    if not task.items:
        return ""
    item = task.items[0]
    if isinstance(item, Section):
        return f"{_OF_ROWS[task.work]} {item.start.relation}"
    if isinstance(item, Bulk):
        return "rows" if item.inserts else "large objects"
    assert isinstance(item, ScriptStep)
    return what(item.command)
