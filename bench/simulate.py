"""``python -m bench.simulate COSTS``: how long a restore would take on more cores, and of a larger dump.

A list scheduler hands measured costs to that many workers, by the rules that a restore must keep: a table's rows (in
chunks, side by side), then its indexes, then foreign keys when both tables are complete, then the proof; ``locks`` tell
which tasks can't run at the same time. The longest remaining path goes first. The simulated machine has enough memory
and disk: what it shows is where the critical path lies, not how fast a disk is.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from bench.costs import Costs

CORES = (2, 16, 64)
GIGABYTES = 100.0
CHUNK_BYTES = 64 << 20
PART = ", part "


@dataclass(frozen=True, slots=True)
class Task:
    """A piece of work that takes one worker. ``after``: the names of those that must be done; ``locks``: what it must
    have for itself; ``shares``: what it uses together with others that share it."""

    name: str
    seconds: float
    after: tuple[str, ...] = ()
    locks: Set[str] = frozenset()
    shares: Set[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Schedule:
    """What came out. ``begins`` and ``ends`` by task, in seconds from the start; ``work`` is the sum of all tasks,
    ``longest`` the longest; ``path`` the chain of tasks, each waiting for the one before, that takes longest."""

    cores: int
    begins: Mapping[str, float]
    ends: Mapping[str, float]
    work: float
    longest: float
    path: tuple[str, ...]
    path_seconds: float

    @property
    def makespan(self) -> float:
        return max(self.ends.values(), default=0.0)

    @property
    def ideal(self) -> float:
        """With every core at work all the time."""
        return self.work / self.cores

    @property
    def possible(self) -> float:
        """No schedule is shorter: all cores at work, or the longest task, which one core must do alone."""
        return max(self.ideal, self.longest)

    @property
    def efficiency(self) -> float:
        """The share of what is possible that is reached."""
        return self.possible / self.makespan if self.makespan else 1.0


def scheduled(tasks: Sequence[Task], cores: int) -> Schedule:
    """Runs the tasks on that many workers. Raises ValueError when they wait for each other in a circle."""
    by_name = {task.name: task for task in tasks}
    followers: dict[str, list[str]] = {task.name: [] for task in tasks}
    for task in tasks:
        for before in task.after:
            followers[before].append(task.name)
    tail = _tails(by_name, followers)
    waits = {task.name: len(task.after) for task in tasks}
    # The longest tail first; names make the order of equals the same every time.
    ready = [(-tail[name], name) for name, count in waits.items() if count == 0]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    held: set[str] = set()
    shared: dict[str, int] = {}
    begins: dict[str, float] = {}
    ends: dict[str, float] = {}
    now = 0.0
    while ready or running:
        blocked = []
        while ready and len(running) < cores:
            entry = heapq.heappop(ready)
            task = by_name[entry[1]]
            if task.locks & held or task.shares & held or any(shared.get(lock) for lock in task.locks):
                blocked.append(entry)
                continue
            held |= task.locks
            for lock in task.shares:
                shared[lock] = shared.get(lock, 0) + 1
            begins[task.name] = now
            heapq.heappush(running, (now + task.seconds, task.name))
        for entry in blocked:
            heapq.heappush(ready, entry)
        now, name = heapq.heappop(running)
        ends[name] = now
        held -= by_name[name].locks
        for lock in by_name[name].shares:
            shared[lock] -= 1
        for follower in followers[name]:
            waits[follower] -= 1
            if waits[follower] == 0:
                heapq.heappush(ready, (-tail[follower], follower))
    path = _path(followers, tail, [name for name, task in by_name.items() if not task.after])
    return Schedule(
        cores,
        begins,
        ends,
        work=sum(task.seconds for task in tasks),
        longest=max((task.seconds for task in tasks), default=0.0),
        path=path,
        path_seconds=max((tail[name] for name in path), default=0.0),
    )


def _tails(tasks: Mapping[str, Task], followers: Mapping[str, Collection[str]]) -> dict[str, float]:
    """From a task's begin to the end of the longest chain that starts with it."""
    left = {name: len(after) for name, after in followers.items()}
    done = [name for name, count in left.items() if count == 0]
    tails: dict[str, float] = {}
    while done:
        name = done.pop()
        tails[name] = tasks[name].seconds + max((tails[f] for f in followers[name]), default=0.0)
        for before in tasks[name].after:
            left[before] -= 1
            if left[before] == 0:
                done.append(before)
    if len(tails) < len(tasks):
        raise ValueError(f"these tasks wait for each other: {', '.join(sorted(set(tasks) - set(tails)))}")
    return tails


def _path(
    followers: Mapping[str, Collection[str]], tail: Mapping[str, float], first: Collection[str]
) -> tuple[str, ...]:
    path: list[str] = []
    choices = first
    while choices:
        path.append(max(choices, key=lambda name: (tail[name], name)))
        choices = followers[path[-1]]
    return tuple(path)


def tasks_of(costs: Costs, *, factor: float = 1.0, readers: int = 1, chunk: int = CHUNK_BYTES) -> list[Task]:
    """The work of restoring a dump ``factor`` times as large as the one that the costs were measured with, read by
    ``readers`` processes side by side, in chunks of that many bytes."""
    tasks: list[Task] = []
    reads: list[str] = []
    complete: dict[str, tuple[str, ...]] = {}
    total = sum(table.bytes for table in costs.tables)
    for table in costs.tables:
        pieces = max(1, round(table.bytes * factor / chunk))
        parts = [f"{table.name}{PART}{number + 1} of {pieces}" for number in range(pieces)]
        reading = costs.reading * factor * table.bytes / total / pieces
        for part in parts:
            # A reader takes the next chunk when it has done one.
            before = reads[-readers:][:1] if len(reads) >= readers else ()
            tasks.append(Task(f"read {part}", reading, tuple(before)))
            tasks.append(Task(f"load {part}", table.load * factor / pieces, (f"read {part}",)))
            reads.append(f"read {part}")
        loaded = tuple(f"load {part}" for part in parts)
        # A sample of the same size, however large the table is.
        analyze = f"analyze {table.name}"
        tasks.append(Task(analyze, table.analyze, loaded))
        tasks += [Task(f"prove {part}", table.proof * factor / pieces, loaded) for part in parts]
        # Builds share a table: they only read it. A sort grows a little faster than what it sorts.
        indexes = [
            Task(f"index {index.name}", index.seconds * factor * table.sorting(factor), loaded, shares={table.name})
            for index in table.indexes
        ]
        tasks += indexes
        complete[table.name] = (*loaded, analyze, *(index.name for index in indexes))
    for key in costs.foreign_keys:
        # Adding one locks both tables, against each other and against index builds.
        after = tuple(dict.fromkeys((*complete[key.table], *complete[key.references])))
        tasks.append(Task(f"foreign key {key.name}", key.seconds * factor, after, locks={key.table, key.references}))
    return tasks


def of_gigabytes(costs: Costs, *, cores: int, gigabytes: float = GIGABYTES, readers: int = 1) -> Schedule:
    """The schedule of a plain dump of that size (10^9 bytes each) and of the measured one's shape."""
    return scheduled(tasks_of(costs, factor=gigabytes * 1e9 / costs.plain_bytes, readers=readers), cores)


def table_of(schedules: Sequence[Schedule]) -> str:
    """What the schedules show, as a Markdown table."""
    lines = [
        "| cores | restore | work / cores | longest task | longest chain | of the ideal | of what is possible |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in schedules:
        lines.append(
            f"| {one.cores} | {one.makespan:,.0f} s | {one.ideal:,.0f} s | {one.longest:,.0f} s | "
            f"{one.path_seconds:,.0f} s | {one.ideal / one.makespan:.2f} | {one.efficiency:.2f} |"
        )
    if schedules:
        steps = dict.fromkeys(name.partition(PART)[0] for name in schedules[-1].path)
        lines += ["", f"The longest chain: {' → '.join(steps)}."]
    return "\n".join(lines)


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("costs", type=Path, help="what python -m bench.costs wrote")
    parser.add_argument("--cores", type=int, nargs="+", default=list(CORES))
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="size of the plain dump (default 100)")
    parser.add_argument("--readers", type=int, default=1, help="processes that read the dump (default 1)")
    given = parser.parse_args()
    costs = Costs.model_validate_json(given.costs.read_bytes())
    print(
        table_of(
            [
                of_gigabytes(costs, cores=cores, gigabytes=given.gigabytes, readers=given.readers)
                for cores in given.cores
            ]
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
