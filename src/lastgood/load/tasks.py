"""The tasks of a restore: their kinds, their costs, and their conflicts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from lastgood.dump.names import Relation
from lastgood.dump.script import Bulk, Item, Script, Section, Step
from lastgood.dump.statements import Kind
from lastgood.dump.summary import DumpSummary
from lastgood.load.costs import Costs, Effort

# A table loaded by several sessions can't be frozen, needs hint bits, and each of its lines is digested: not worth it
# for small tables or few workers. Measured with two: 43 s instead of 33 for a table of 1 GB.
DIVIDE_FROM = 64 << 20
DIVIDE_AMONG = 4
# Statistics of smaller tables are gathered later, for many at once.
ANALYZE_FROM = 1 << 20


class Work(Enum):
    """The kind of a task. COMMANDS run in sequence in one session; ROWS loads one section, or one of its parts; READ
    reads a table back that was loaded from one section, or one of its parts."""

    COMMANDS = "commands"
    ROWS = "rows"
    DATA = "data"
    INDEX = "index"
    KEY = "foreign key"
    READ = "read back"


class Lock(Enum):
    """The lock of a task on a table, with which conflicting tasks are kept apart."""

    READ = "ACCESS SHARE"
    ROWS = "ROW EXCLUSIVE"
    BUILD = "SHARE"
    KEY = "SHARE ROW EXCLUSIVE"
    ALONE = "ACCESS EXCLUSIVE"


_CONFLICTS: Mapping[Lock, frozenset[Lock]] = {
    Lock.READ: frozenset({Lock.ALONE}),
    Lock.ROWS: frozenset({Lock.BUILD, Lock.KEY, Lock.ALONE}),
    Lock.BUILD: frozenset({Lock.ROWS, Lock.KEY, Lock.ALONE}),
    Lock.KEY: frozenset({Lock.ROWS, Lock.BUILD, Lock.KEY, Lock.ALONE}),
    Lock.ALONE: frozenset(Lock),
}


def conflict(one: Lock, other: Lock) -> bool:
    """Whether one task would wait for the other on the server."""
    return other in _CONFLICTS[one]


@dataclass(slots=True)
class Task:
    """One piece of work for one session. ``after``: the numbers of tasks that must be done before it; ``locks``: the
    tables that it locks. ``serial``: it changes the catalogue in a way that two sessions should not attempt at once.
    ``cost``: approximate seconds of one processor; ``rank``: the cost from its beginning to the end of the load.
    ``parts``: the number of tasks that share the section.
    """

    number: int
    work: Work
    items: Sequence[Item]
    after: set[int] = field(default_factory=set)
    locks: dict[Relation, Lock] = field(default_factory=dict)
    serial: bool = False
    cost: float = 0.0
    rank: float = 0.0
    parts: int = 1


def effort_of(task: Task) -> Effort:
    """The kind of effort of a task. A refreshed view, or rows as INSERTs, outweigh the other commands."""
    if task.work is not Work.COMMANDS:
        return _EFFORTS[task.work]
    if any(isinstance(item, Step) and item.command.kind is Kind.REFRESH for item in task.items):
        return Effort.REFRESH
    return Effort.DATA if any(isinstance(item, Bulk) for item in task.items) else Effort.COMMANDS


_EFFORTS = {
    Work.ROWS: Effort.ROWS,
    Work.DATA: Effort.DATA,
    Work.INDEX: Effort.INDEX,
    Work.KEY: Effort.KEY,
    Work.READ: Effort.READ,
}


def ranked(tasks: list[Task]) -> list[Task]:
    """Set each task's ``rank``: its own cost plus the greatest rank among the tasks that wait for it."""
    longest: dict[int, float] = defaultdict(float)
    for task in sorted(tasks, key=lambda task: task.number, reverse=True):
        task.rank = task.cost + longest[task.number]
        for number in task.after:
            longest[number] = max(longest[number], task.rank)
    return tasks


def whole_tables(items: Iterable[Item], summary: DumpSummary) -> frozenset[Relation]:
    """Ordinary tables that the dump creates, and whose rows are all in one section."""
    sections = Counter(item.start.relation for item in items if isinstance(item, Section))
    return frozenset(
        relation
        for relation, count in sections.items()
        if count == 1 and relation in summary.tables and summary.tables[relation].carries_rows
    )


def small_tables(script: Script) -> frozenset[Relation]:
    """Small tables, whose statistics are gathered for many at once at the end; without tables for which the dump has
    statistics."""
    rows: dict[Relation, int] = {}
    for section in script.sections:
        rows[section.start.relation] = max(section.size, rows.get(section.start.relation, 0))
    in_dump = {
        relation
        for item in script.items
        if isinstance(item, Step) and item.command.kind is Kind.STATISTICS_CALL
        for relation in item.command.relations
    }
    return frozenset(relation for relation, size in rows.items() if size < ANALYZE_FROM and relation not in in_dump)


def analyzed_last(script: Script, summary: DumpSummary, costs: Costs) -> float:
    """The approximate seconds of one worker for the statistics that are gathered at the end."""
    views = sum(
        isinstance(item, Step) and item.command.kind in (Kind.REFRESH, Kind.STATISTICS) for item in script.items
    )
    others = views + sum(table.partitioned for table in summary.tables.values())
    return costs.analyzed(len(small_tables(script)), others)
