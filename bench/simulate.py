"""``python -m bench.simulate COSTS``: how long a restore would take on more cores, and of a larger dump.

The engine's own tasks, in the order that its own schedule gives them to workers: only what each task takes is not done
but looked up, in costs that were measured. The simulated machine has enough memory and disk, and sessions that do not
stand in each other's way; what a process of ours does for a part of a table counts as work of the same core. What it
shows is where the critical path lies, not how fast a disk is.
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
from lastgood.dump.script import Item, Section, Step
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
    ``work`` is the sum of all tasks, ``largest`` what no number of cores makes shorter, since the server's locks put it
    one behind the other: of one table the longest index and then all foreign keys; ``chain`` are those that wait for
    each other and take longest, ``chain_seconds`` together."""

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
        """The share that the schedule reaches of what is possible."""
        return self.possible / self.makespan if self.makespan else 1.0


def forecast(costs: Costs, *, cores: int, gigabytes: float = GIGABYTES) -> Forecast:
    """Of a plain dump of that size (10^9 bytes each) and of the shape of the one that the costs were measured with."""
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
    """CREATE INDEX takes a SHARE lock, ADD FOREIGN KEY one of SHARE ROW EXCLUSIVE, which lets in neither."""
    indexes: dict[Relation, float] = defaultdict(float)
    keys: dict[Relation, float] = defaultdict(float)
    for task in tasks:
        for relation in list(task.locks)[:1]:  # of a key: the table that refers
            if task.work is Work.INDEX:
                indexes[relation] = max(indexes[relation], task.cost)
            elif task.work is Work.KEY:
                keys[relation] += task.cost
    return max((indexes[relation] + keys[relation] for relation in {*indexes, *keys}), default=0.0)


def scaled(costs: Costs, factor: float, workers: int = 1) -> list[Task]:
    """The engine's tasks for a dump ``factor`` times as large, and so many workers. They are ranked by what the engine
    believes that they cost; ``cost`` is what was measured."""
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
    """What tasks cost, by what they are about. A sort grows a little faster than what it sorts; the sample that ANALYZE
    takes does not grow."""

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
                share = item.size / max(1.0, table.bytes * self._factor) / task.parts
                if task.work is Work.READ:
                    return table.proof * self._factor * share
                lines = table.lines * self._factor if task.parts > 1 else 0.0
                return (table.load * self._factor + lines + table.analyze) * share
            case Step() if task.work is Work.INDEX:
                instant = b" USING INDEX " in item.command.statement.text  # another task built it
                return task.cost if instant else self._indexes[_made(item)]
            case Step() if task.work is Work.KEY:
                return self._keys[_made(item)]
        return task.cost


def _made(step: Step) -> str:
    """The name of the index or constraint that a command makes."""
    return _bare(step.command.creates[0].identity.split(" on ")[0])


def _bare(name: str) -> str:
    """A name without its schema."""
    return name.rpartition(".")[2]


def longest_chain(tasks: Sequence[Task]) -> tuple[tuple[str, ...], float]:
    """The tasks that wait for each other and take longest, by name, and their seconds."""
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


def named(task: Task) -> str:
    """A task in a few words."""
    item = task.items[0] if task.items else None
    match item:
        case Section():
            return f"{'reading back' if task.work is Work.READ else 'rows of'} {item.start.relation}"
        case Step() if task.work in (Work.INDEX, Work.KEY):
            return what(item.command)
    return "definitions"


class _Text:
    """The text of a dump, as a source."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def chunks(self) -> Iterator[bytes]:
        yield self._text


def table_of(forecasts: Sequence[Forecast]) -> str:
    """What the forecasts show, as a Markdown table."""
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
    """Prints the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("costs", type=Path, help="what python -m bench.costs wrote")
    parser.add_argument("--cores", type=int, nargs="+", default=list(CORES))
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="size of the plain dump (default 100)")
    given = parser.parse_args()
    costs = Costs.model_validate_json(given.costs.read_bytes())
    print(table_of([forecast(costs, cores=cores, gigabytes=given.gigabytes) for cores in given.cores]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
