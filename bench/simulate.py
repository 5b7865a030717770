"""``python -m bench.simulate COSTS``: an estimate of a restore on more cores, and of a larger dump.

It runs the engine's own tasks in the order of the engine's own schedule, but takes the duration of each task from
measured costs. The simulated machine has enough memory and disk, and sessions that do not slow each other down. A
process that handles a part of a table counts as work of the same core. The result shows where the critical path is, not
how fast a disk is.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.costs import Costs, Table
from lastgood.dump.names import Relation, parse
from lastgood.dump.script import Item, ScriptStep, Section
from lastgood.facts.of_dump import facts_of_dump
from lastgood.load import schedule
from lastgood.load.graph import tasks_of
from lastgood.load.repairs import what
from lastgood.load.tasks import Task, Work

CORES = (2, 16, 64)
GIGABYTES = 100.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Seconds on that many ``cores``. ``reading`` comes first, in one process; the tasks take ``makespan`` then.
    ``work`` is the sum of all tasks. ``largest`` is the work that the server's locks serialize, on any number of cores:
    for one table the longest index, the statistics and all foreign keys. ``chain`` is the longest chain of tasks that
    wait for each other, ``chain_seconds`` its duration."""

    cores: int
    reading: float
    makespan: float
    work: float
    largest: float
    chain: tuple[str, ...]
    chain_seconds: float

    @property
    def total(self) -> float:
        """From the first byte read to the last task done."""
        return self.reading + self.makespan

    @property
    def possible(self) -> float:
        """No schedule is shorter, even with rows in the smallest pieces: all cores at work, or one table's locks."""
        return max(self.work / self.cores, self.largest)

    @property
    def efficiency(self) -> float:
        """The lower bound as a share of the schedule's time."""
        return self.possible / self.makespan if self.makespan else 1.0


def forecast(costs: Costs, *, cores: int, gigabytes: float = GIGABYTES) -> Forecast:
    """The forecast for a plain dump of that size (in 10^9 bytes), of the same shape as the measured one."""
    factor = gigabytes * 1e9 / costs.plain_bytes
    tasks = scaled(costs, factor, cores)
    chain, chain_seconds = longest_chain(tasks)
    done = schedule.simulate(tasks, cores)
    return Forecast(
        cores=cores,
        reading=costs.reading * factor,
        makespan=done.seconds,
        work=done.work,
        largest=_largest(tasks),
        chain=chain,
        chain_seconds=chain_seconds,
    )


def _largest(tasks: Sequence[Task]) -> float:
    """CREATE INDEX takes a SHARE lock, ANALYZE a SHARE UPDATE EXCLUSIVE and ADD FOREIGN KEY a SHARE ROW EXCLUSIVE lock,
    which conflict with each other."""
    indexes: dict[Relation, float] = defaultdict(float)
    others: dict[Relation, float] = defaultdict(float)
    for task in tasks:
        for relation in list(task.locks)[:1]:  # of a key: the table that refers
            if task.work is Work.INDEX:
                indexes[relation] = max(indexes[relation], task.cost)
            elif task.work in (Work.KEY, Work.STATISTICS):
                others[relation] += task.cost
    return max((indexes[relation] + others[relation] for relation in {*indexes, *others}), default=0.0)


def scaled(costs: Costs, factor: float, workers: int = 1) -> list[Task]:
    """The engine's tasks for a dump ``factor`` times as large, and so many workers. They are ranked by the engine's own
    estimates; ``cost`` has the measured costs."""
    summary = facts_of_dump(_Text(costs.definitions.encode()))[1]
    tables = _by_relation(costs)
    items: list[Item] = []
    for item in summary.script.items:
        if isinstance(item, Section):
            table = tables[item.start.relation]
            item = replace(item, rows=round(table.rows * factor), size=round(table.bytes * factor))
        items.append(item)
    tasks = tasks_of(items, summary, workers=workers)
    measured = _Measured(costs, factor)
    for task in tasks:
        task.cost = measured.cost(task)
    return tasks


def _by_relation(costs: Costs) -> Mapping[Relation | None, Table]:
    return {parse(table.name, ""): table for table in costs.tables}


class _Measured:
    """The costs of tasks, by their objects. A sort grows a little faster than its input; ANALYZE's sample does not
    grow."""

    def __init__(self, costs: Costs, factor: float) -> None:
        self._factor = factor
        self._tables = _by_relation(costs)
        self._indexes: Mapping[str, float] = {
            _bare(index.name): index.seconds * factor * table.sorting(factor)
            for table in costs.tables
            for index in table.indexes
        }
        self._keys = {key.name: key.seconds * factor for key in costs.foreign_keys}

    def cost(self, task: Task) -> float:
        item = task.items[0] if task.items else None
        match item:
            case Section():
                table = self._tables[item.start.relation]
                if task.work is Work.STATISTICS:
                    return table.analyze
                share = item.size / max(1.0, table.bytes * self._factor) / task.parts
                if task.work is Work.READ:
                    return table.proof * self._factor * share
                lines = table.lines * self._factor if task.parts > 1 else 0.0
                return (table.load * self._factor + lines) * share
            case ScriptStep() if task.work is Work.INDEX:
                instant = b" USING INDEX " in item.command.statement.text  # another task built it
                return task.cost if instant else self._indexes[_made(item)]
            case ScriptStep() if task.work is Work.KEY:
                return self._keys[_made(item)]
        return task.cost


def _made(step: ScriptStep) -> str:
    """The name of the index or constraint that a command creates."""
    return _bare(step.command.creates[0].identity.split(" on ")[0])


def _bare(name: str) -> str:
    """A name without its schema."""
    return name.rpartition(".")[2]


def longest_chain(tasks: Sequence[Task]) -> tuple[tuple[str, ...], float]:
    """The longest chain of tasks that wait for each other, by name, and its seconds."""
    ends: dict[int, float] = {}
    before: dict[int, Task] = {}
    by_number = {task.number: task for task in tasks}
    for task in sorted(tasks, key=lambda task: task.number):  # a task waits only for earlier ones
        last = max(task.after, key=lambda number: ends[number], default=None)
        ends[task.number] = task.cost + (ends[last] if last is not None else 0.0)
        if last is not None:
            before[task.number] = by_number[last]
    if not ends:
        return (), 0.0
    step: Task | None = by_number[max(ends, key=lambda number: ends[number])]
    seconds = ends[step.number] if step is not None else 0.0
    chain: list[str] = []
    while step is not None:
        chain.append(named(step))
        step = before.get(step.number)
    return tuple(reversed(chain)), seconds


_OF_ROWS = {Work.ROWS: "rows of", Work.READ: "reading back", Work.STATISTICS: "statistics of"}


def named(task: Task) -> str:
    """A task in a few words."""
    item = task.items[0] if task.items else None
    match item:
        case Section():
            return f"{_OF_ROWS[task.work]} {item.start.relation}"
        case ScriptStep() if task.work in (Work.INDEX, Work.KEY):
            return what(item.command)
    return "definitions"


class _Text:
    """The text of a dump, as a source."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def chunks(self) -> Iterator[bytes]:
        yield self._text


def table_of(forecasts: Sequence[Forecast]) -> str:
    """The forecasts as a Markdown table."""
    lines = [
        "| cores | reading | then the tasks | work / cores | one table's locks | longest chain | of the possible |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in forecasts:
        lines.append(
            f"| {one.cores} | {one.reading:,.0f} s | {one.makespan:,.0f} s | {one.work / one.cores:,.0f} s | "
            f"{one.largest:,.0f} s | {one.chain_seconds:,.0f} s | {one.efficiency:.2f} |"
        )
    if forecasts:
        lines += ["", f"The longest chain: {' → '.join(forecasts[-1].chain)}."]
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("costs", type=Path, help="the file that python -m bench.costs wrote")
    parser.add_argument("--cores", type=int, nargs="+", default=list(CORES))
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="size of the plain dump (default 100)")
    given = parser.parse_args()
    costs = Costs.model_validate_json(given.costs.read_bytes())
    print(table_of([forecast(costs, cores=cores, gigabytes=given.gigabytes) for cores in given.cores]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
