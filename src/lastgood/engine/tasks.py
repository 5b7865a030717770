"""What a restore has to do, as tasks: which must come before which, which may not run side by side, what each costs.

A plain dump has no graph of dependencies. What is known is made of the statements themselves: rows, indexes and keys
of ordinary tables, and what belongs to one table, are ordered by the tables that they name. Whatever is not recognised
is a barrier: everything before it comes first, everything after it comes later.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from lastgood.dump.names import Relation, parse
from lastgood.dump.script import Bulk, Item, Script, Section, Step
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.engine.costs import Costs, Effort
from lastgood.engine.unique import in_two

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
_BUILDS = {
    Kind.INDEX: Lock.BUILD,
    Kind.PRIMARY_KEY: Lock.ALONE,
    Kind.UNIQUE: Lock.ALONE,
    Kind.EXCLUSION: Lock.ALONE,
}
# What belongs to the tables (or views) that the command names, and to nothing else.
_OF_RELATIONS = frozenset(
    {
        Kind.CHECK,
        Kind.NOT_NULL,
        Kind.POLICY,
        Kind.ROW_SECURITY,
        Kind.RULE,
        Kind.STATISTICS,
        Kind.TABLE_PROPERTY,
        Kind.TRIGGER,
    }
)
_MAKES = frozenset({Kind.TABLE, Kind.FOREIGN_TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.SEQUENCE})
# On a partitioned table alone: its partitions have indexes of their own, which are attached later.
_ONLY = re.compile(rb"ALTER\s+TABLE\s+ONLY\s|CREATE\s+(?:UNIQUE\s+)?INDEX\s.*?\sON\s+ONLY\s", re.DOTALL | re.IGNORECASE)
# Nothing depends on these: they wait for the next barrier, so that none of them is one.
_TRAILING = frozenset({Kind.COMMENT, Kind.SECURITY_LABEL, Kind.PARTITION, Kind.SEQUENCE_POSITION, Kind.STATISTICS_CALL})


def tasks_of(
    items: Iterable[Item],
    summary: DumpSummary,
    *,
    workers: int = 1,
    read_back: bool = True,
    costs: Costs | None = None,
) -> list[Task]:
    """The tasks of a script, in an order in which they could be done one by one; each with its ``rank``.

    ``read_back`` adds READ tasks for each ordinary table whose rows are one section. A section that would keep one of
    ``workers`` busy when the others have nothing left to do is several tasks.
    """
    items = list(items)
    costs = costs or Costs()
    parts: dict[int, int] = {}
    while True:
        graph = _Graph(summary, costs, parts, workers)
        for item in items:
            graph.add(item)
        graph.finish()
        if read_back:
            graph.read_back(whole_tables(items, summary))
        ranked(graph.tasks)
        more = _divided(graph.tasks, workers, costs)
        if parts or not more:
            return graph.tasks
        parts = more


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


def _divided(tasks: Sequence[Task], workers: int, costs: Costs) -> dict[int, int]:
    """Into how many parts to divide which sections: those on whose way to the end more lies than a worker's share of
    all work."""
    share = sum(task.cost for task in tasks) / workers
    return {
        item.number: min(workers, math.ceil(task.cost / max(share - (task.rank - task.cost), share / 4)))
        for task in tasks
        for item in task.items
        if workers >= DIVIDE_AMONG
        and task.work is Work.ROWS
        and isinstance(item, Section)
        and item.size >= DIVIDE_FROM
        and task.rank > share
        and task.cost > share / 4
    }


def ranked(tasks: list[Task]) -> list[Task]:
    """Sets each task's ``rank``: its own cost and the greatest rank of those that wait for it."""
    longest: dict[int, float] = defaultdict(float)
    for task in sorted(tasks, key=lambda task: task.number, reverse=True):
        task.rank = task.cost + longest[task.number]
        for number in task.after:
            longest[number] = max(longest[number], task.rank)
    return tasks


def _index_of(command: Command) -> tuple[Relation, ...]:
    """The index that a command makes, as a relation: that of a constraint has the constraint's name."""
    schema = command.relations[0].schema
    # An index's identity is qualified; a constraint's is its name, then the table's: ``a_pkey on public.a``.
    names = (one.identity.rpartition(" on ")[0] or one.identity for one in command.creates)
    found = (parse(name, schema) for name in names)
    return tuple(relation for relation in found if relation is not None)


class _Graph:
    def __init__(self, summary: DumpSummary, costs: Costs, parts: Mapping[int, int], workers: int) -> None:
        self.tasks: list[Task] = []
        self._summary = summary
        self._costs = costs
        self._parts = parts
        self._workers = workers
        self._barrier: Task | None = None  # the last one, still open while nothing follows it
        self._open = False
        self._since: list[Task] = []
        self._on: defaultdict[Relation, list[Task]] = defaultdict(list)
        self._trailing: list[Item] = []
        self._bytes: defaultdict[Relation, int] = defaultdict(int)
        self._rows: defaultdict[Relation, int] = defaultdict(int)
        self._sections: defaultdict[Relation, list[Task]] = defaultdict(list)
        self._empty: set[Relation] = set()  # materialized views: they are filled at the end
        self._there: set[Relation] = set()  # tables, views and indexes that are made
        self._not_made: list[Task] = []  # the rows of the last table that an extension made
        self._whole = False  # rows went in through a partitioned table: which tables they are in is not known

    def add(self, item: Item) -> None:
        match item:
            case Section():
                self._section(item)
            case Bulk():
                if item.inserts:
                    self._barred(item)
                else:
                    self._new(Work.DATA, item, cost=self._cost_of(item))
            case Step():
                self._step(item)

    def finish(self) -> None:
        """Nothing follows: what trails comes now."""
        if self._trailing:
            self._begin_barrier()

    def _step(self, step: Step) -> None:
        command = step.command
        kind, relations = command.kind, command.relations
        if command.verdict is Verdict.SKIP or kind in (Kind.SETTING, Kind.SESSION_AUTHORIZATION):
            return  # what is set is part of the state of what follows
        if kind is Kind.MATERIALIZED_VIEW:
            self._empty.update(relations[:1])
        if kind in _MAKES:
            self._there.update(relations[:1])
        if self._whole or not self._rows or (self._open and kind in _TRAILING):
            self._barred(step)
        elif kind in _TRAILING:
            self._trailing.append(step)
        elif kind in _BUILDS and len(relations) == 1 and self._ordinary(relations[0]):
            self._build(step, relations[0], _BUILDS[kind])
        elif kind is Kind.FOREIGN_KEY and len(relations) == 2 and all(map(self._ordinary, relations)):
            self._key(step)
        elif (kind in _OF_RELATIONS and relations and self._there.issuperset(relations)) or (
            kind in _BUILDS and self._without_rows(step)
        ):
            task = self._new(Work.COMMANDS, step, cost=self._costs.command, serial=True)
            for relation in relations:
                task.after.update(other.number for other in self._on[relation])
                task.locks[relation] = Lock.ALONE
            self._note(task, *relations, *_index_of(command))
        else:
            self._barred(step)

    def _without_rows(self, step: Step) -> bool:
        """Whether an index or key is of something that has no rows: a partitioned table alone, a view to be filled."""
        relations = step.command.relations
        definition = self._summary.tables.get(relations[0]) if len(relations) == 1 else None
        if definition is not None:
            return definition.partitioned and bool(_ONLY.match(step.command.statement.text))
        return len(relations) == 1 and relations[0] in self._empty

    def _ordinary(self, relation: Relation) -> bool:
        definition = self._summary.tables.get(relation)
        return definition is not None and definition.carries_rows

    def _section(self, section: Section) -> None:
        relation = section.start.relation
        made = relation in self._summary.tables
        parts = self._parts.get(section.number, 1) if made else 1
        cost = section.size * self._costs.load_byte / parts + self._costs.command
        earlier = [other.number for other in self._on[relation]]
        if not made:
            # An extension's table has its keys and triggers from the start, and pg_dump writes rows in the order that
            # they need: one after the other, and each table by one session.
            earlier += [other.number for other in self._not_made]
            self._not_made = []
        for _ in range(parts):
            task = self._new(Work.ROWS, section, cost=cost)
            task.parts = parts
            task.after.update(earlier)
            task.locks[relation] = Lock.ALONE if parts == 1 else Lock.ROWS
            self._note(task, relation)
            self._sections[relation].append(task)
            if not made:
                self._not_made = [task]
        self._bytes[relation] += section.size
        self._rows[relation] += section.rows
        self._whole = self._whole or not self._ordinary(relation)

    def _build(self, step: Step, table: Relation, lock: Lock) -> None:
        cost = self._rows[table] * self._costs.index_row + self._bytes[table] * self._costs.index_byte
        halves = None
        if lock is Lock.ALONE and self._workers >= DIVIDE_AMONG and self._bytes[table] >= DIVIDE_FROM:
            halves = in_two(step.command)
        if halves is None:
            self._builds(step, table, lock, cost)
            return
        index = self._builds(replace(step, command=halves[0]), table, Lock.BUILD, cost)
        self._builds(replace(step, command=halves[1]), table, Lock.ALONE, 0.0).after.add(index.number)

    def _builds(self, step: Step, table: Relation, lock: Lock, cost: float) -> Task:
        task = self._new(Work.INDEX, step, cost=cost + self._costs.command)
        task.after.update(other.number for other in self._on[table] if other.work is not Work.INDEX)
        task.locks[table] = lock
        self._note(task, table, *_index_of(step.command))
        return task

    def _key(self, step: Step) -> None:
        table, other = step.command.relations
        task = self._new(Work.KEY, step, cost=self._rows[table] * self._costs.key_row + self._costs.command)
        for relation in (table, other):
            task.locks[relation] = Lock.KEY
            # The unique index that it looks rows up with is on the other table; which one, the statement need not say.
            task.after.update(
                each.number
                for each in self._on[relation]
                if each.work is not Work.KEY and (each.work is not Work.INDEX or relation == other)
            )
        self._note(task, table, other)

    def _barred(self, item: Item) -> None:
        if not self._open:
            self._begin_barrier()
        assert self._barrier is not None  # it was just begun
        items = self._barrier.items
        assert isinstance(items, list)
        items.append(item)
        self._barrier.cost += self._cost_of(item)

    def _cost_of(self, item: Item) -> float:
        """Of an item that is run as it stands."""
        if isinstance(item, Bulk):
            return self._costs.command + (item.end - item.begin if item.end else 0) * self._costs.data_byte
        if isinstance(item, Step) and item.command.kind is Kind.REFRESH:
            return self._costs.refresh
        return self._costs.command

    def _begin_barrier(self) -> None:
        task = Task(len(self.tasks), Work.COMMANDS, list(self._trailing), serial=True)
        task.after.update(other.number for other in self._since)
        if self._barrier is not None:
            task.after.add(self._barrier.number)
        task.cost = self._costs.command * len(self._trailing)
        self.tasks.append(task)
        self._barrier, self._open, self._whole = task, True, False
        self._trailing = []
        self._since.clear()
        self._on.clear()

    def _new(self, work: Work, item: Item, *, cost: float, serial: bool = False) -> Task:
        self._open = False
        task = Task(len(self.tasks), work, (item,), cost=cost, serial=serial)
        if self._barrier is not None:
            task.after.add(self._barrier.number)
        self.tasks.append(task)
        self._since.append(task)
        return task

    def _note(self, task: Task, *relations: Relation) -> None:
        self._there.update(relations)
        for relation in dict.fromkeys(relations):
            self._on[relation].append(task)

    def read_back(self, whole: Collection[Relation]) -> None:
        """A table that several sessions loaded is read back by as many, each so many of its pages."""
        for relation, loads in self._sections.items():
            if relation in whole:
                after = {load.number for load in loads}
                cost = self._bytes[relation] * self._costs.read_byte / len(loads) + self._costs.command
                for _ in loads:
                    task = Task(len(self.tasks), Work.READ, loads[0].items, set(after), {relation: Lock.READ})
                    task.cost, task.parts = cost, len(loads)
                    self.tasks.append(task)
