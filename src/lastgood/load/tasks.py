"""What a restore has to do, as tasks: what each is, what it costs, and which may not run side by side."""

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

# A table loaded by several sessions can't be frozen, its hint bits have to be set, and each of its lines digested: for
# small ones, or with few workers, it does not pay. Measured with two: 43 s instead of 33 for a table of 1 GB.
DIVIDE_FROM = 64 << 20
DIVIDE_AMONG = 4
# Statistics of smaller tables are gathered for many at once, later.
ANALYZE_FROM = 1 << 20


class Work(Enum):
    """What a task is. COMMANDS run one behind the other in one session; ROWS is one section, or the ``part`` of it that
    one session gets to load; READ reads a table back that was loaded from one section, or as many parts of it."""

    COMMANDS = "commands"
    ROWS = "rows"
    DATA = "data"
    INDEX = "index"
    KEY = "foreign key"
    READ = "read back"


class Lock(Enum):
    """What a task does to a table, as far as others must not do theirs at the same time."""

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
    """Whether the server would let one task wait for the other."""
    return other in _CONFLICTS[one]


@dataclass(slots=True)
class Task:
    """One piece of work for one session. ``after`` are the numbers of tasks that must be done before it, ``locks`` the
    tables that it holds. ``serial``: changes the catalogue in a way that two sessions should not try at once.
    ``cost`` is in seconds of one processor, roughly; ``rank`` what is left from its beginning to the end. ``parts``:
    how many tasks share the section.
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
    """What kind of effort a task is. A view that is filled, or rows that are INSERTs, outweigh the commands around."""
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
    """Set each task's ``rank``: its own cost and the greatest rank of those that wait for it."""
    longest: dict[int, float] = defaultdict(float)
    for task in sorted(tasks, key=lambda task: task.number, reverse=True):
        task.rank = task.cost + longest[task.number]
        for number in task.after:
            longest[number] = max(longest[number], task.rank)
    return tasks


def whole_tables(items: Iterable[Item], summary: DumpSummary) -> frozenset[Relation]:
    """Ordinary tables that the dump makes, and whose rows are all in one section."""
    sections = Counter(item.start.relation for item in items if isinstance(item, Section))
    return frozenset(
        relation
        for relation, count in sections.items()
        if count == 1 and relation in summary.tables and summary.tables[relation].carries_rows
    )


def small_tables(script: Script) -> frozenset[Relation]:
    """Tables of so few rows that their statistics are gathered for many at once, when all else is done; without those
    of which the dump has statistics."""
    rows: dict[Relation, int] = {}
    for section in script.sections:
        rows[section.start.relation] = max(section.size, rows.get(section.start.relation, 0))
    told = {
        relation
        for item in script.items
        if isinstance(item, Step) and item.command.kind is Kind.STATISTICS_CALL
        for relation in item.command.relations
    }
    return frozenset(relation for relation, size in rows.items() if size < ANALYZE_FROM and relation not in told)


def analyzed_last(script: Script, summary: DumpSummary, costs: Costs) -> float:
    """Seconds of one worker, about, for the statistics that are gathered when all else is done."""
    views = sum(
        isinstance(item, Step) and item.command.kind in (Kind.REFRESH, Kind.STATISTICS) for item in script.items
    )
    others = views + sum(table.partitioned for table in summary.tables.values())
    return costs.analyzed(len(small_tables(script)), others)
