"""The dependency graph of a load: a script's items as tasks with their order.

A plain dump has no graph of dependencies, so it is derived from the statements. Rows, indexes and keys of ordinary
tables, and objects of one table, are ordered by the tables that they name. Any other statement is a barrier: everything
before it comes first, everything after it comes later.

Each order that a dump relies on is an edge here: costs only choose among the remaining orders. A task waits for every
earlier statement of the dump that may change its effect: through partitions, through existing keys and triggers, or
through a function that reads other tables.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from lastgood.dump.names import Relation
from lastgood.dump.script import Bulk, Item, ScriptStep, Section
from lastgood.dump.statements import Command, Kind, TableDefinition, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.load.code import Code
from lastgood.load.costs import Costs
from lastgood.load.family import Family
from lastgood.load.tasks import (
    ANALYZE_FROM,
    DIVIDE_FROM,
    Lock,
    Task,
    Work,
    adds_statistics,
    cost_of,
    divided,
    in_two,
    index_of,
    ranked,
    whole_tables,
    with_statistics,
)

_BUILDS = {
    Kind.INDEX: Lock.BUILD,
    Kind.PRIMARY_KEY: Lock.ALONE,
    Kind.UNIQUE: Lock.ALONE,
    Kind.EXCLUSION: Lock.ALONE,
}
# Objects that belong only to the tables (or views) that the command names.
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
# Without ONLY they also affect the children of a table.
_REACHES_PARTS = frozenset({Kind.CHECK, Kind.NOT_NULL, Kind.TABLE_PROPERTY, Kind.TRIGGER})
_MAKES = frozenset({Kind.TABLE, Kind.FOREIGN_TABLE, Kind.VIEW, Kind.MATERIALIZED_VIEW, Kind.SEQUENCE})
# On a partitioned table alone: its partitions have indexes of their own, which are attached later.
_ONLY = re.compile(rb"ALTER\s+TABLE\s+ONLY\s|CREATE\s+(?:UNIQUE\s+)?INDEX\s.*?\sON\s+ONLY\s", re.DOTALL | re.IGNORECASE)
# ALTER TABLE only: partitions of indexes are attached with ALTER INDEX.
_OF_TABLE = re.compile(rb"ALTER\s+TABLE\s", re.IGNORECASE)
# In the query of a rule or a policy: it may depend on a key that the query does not name.
_MAY_NEED_KEY = re.compile(rb"\bGROUP\s+BY\b|\bON\s+CONFLICT\b", re.IGNORECASE)
_USES_INDEX = re.compile(rb"\bUSING\s+INDEX\s+(?!TABLESPACE\b)", re.IGNORECASE)
# Nothing depends on these: they wait for the next barrier instead of being one.
_TRAILING = frozenset({Kind.COMMENT, Kind.SECURITY_LABEL, Kind.PARTITION, Kind.SEQUENCE_POSITION, Kind.STATISTICS_CALL})
# To wait for more tasks than this, an empty task joins them.
JOINED = 4


def tasks_of(
    items: Iterable[Item],
    summary: DumpSummary,
    *,
    workers: int = 1,
    read_back: bool = True,
    costs: Costs | None = None,
    strict: bool = False,
) -> list[Task]:
    """The tasks of a script in a valid sequential order, each with its ``rank``.

    ``strict``: checks that call functions stay in force while rows are loaded. ``read_back`` adds READ tasks for each
    ordinary table whose rows are one section. A section that would keep one of ``workers`` busy while the others are
    idle becomes several tasks.
    """
    items = list(items)
    costs = costs or Costs()
    family = Family(items, summary)
    parts: dict[int, int] = {}
    while True:
        graph = _Graph(summary, costs, parts, workers, family, Code(strict=strict), with_statistics(items))
        for item in items:
            graph.add(item)
        graph.finish()
        if read_back:
            graph.read_back(whole_tables(items, summary))
        ranked(graph.tasks)
        more = divided(graph.tasks, workers)
        if parts or not more:
            return graph.tasks
        parts = more


class _Graph:
    def __init__(
        self,
        summary: DumpSummary,
        costs: Costs,
        parts: Mapping[int, int],
        workers: int,
        family: Family,
        code: Code,
        have_statistics: Collection[Relation],
    ) -> None:
        self.tasks: list[Task] = []
        self._summary = summary
        self._costs = costs
        self._parts = parts
        self._workers = workers
        self._family = family
        self._code = code
        self._have_statistics = have_statistics
        self._unanalyzed: dict[Relation, None] = {}  # large tables with rows since their statistics were gathered
        self._barrier: Task | None = None  # the last barrier, open until a task follows it
        self._open = False
        self._since: list[Task] = []
        self._on: defaultdict[Relation, list[Task]] = defaultdict(list)
        self._keys_on: defaultdict[Relation, list[Task]] = defaultdict(list)
        self._loads: list[int] = []  # of rows, since the barrier
        self._large: Task | None = None  # the last one of large objects
        self._brought: Task | None = None  # the last one of rows for a table that the dump does not create
        self._trailing: list[Item] = []
        self._bytes: defaultdict[Relation, int] = defaultdict(int)
        self._rows: defaultdict[Relation, int] = defaultdict(int)
        self._sections: defaultdict[Relation, list[Task]] = defaultdict(list)
        self._empty: set[Relation] = set()  # materialized views: they are populated at the end
        self._there: set[Relation] = set()  # tables, views and indexes that exist
        self._fired: set[Relation] = set()  # tables with a trigger
        self._keys: defaultdict[Relation, list[Relation]] = defaultdict(list)  # table → tables that it references
        self._whole = False  # rows were loaded through a partitioned table: their tables are unknown

    def add(self, item: Item) -> None:
        match item:
            case Section():
                self._section(item)
            case Bulk():
                if item.inserts:
                    self._barred(item)
                else:
                    self._large_objects(item)
            case ScriptStep():
                self._step(item)

    def finish(self) -> None:
        """Complete the graph: trailing items become a barrier."""
        if self._trailing:
            self._begin_barrier()
        self._analyze()

    def _large_objects(self, bulk: Bulk) -> None:
        """Add large objects, which are independent of tables; but a bulk may fill, or change the owner of, an earlier
        bulk's objects."""
        task = self._new(Work.DATA, bulk, cost=cost_of(bulk, self._costs))
        if self._large is not None:
            task.after.add(self._large.number)
        self._large = task

    def _step(self, step: ScriptStep) -> None:
        command = step.command
        kind, relations = command.kind, command.relations
        if command.verdict is Verdict.SKIP or kind in (Kind.SETTING, Kind.SESSION_AUTHORIZATION):
            return  # settings are part of the state of the following items
        if kind is Kind.MATERIALIZED_VIEW:
            self._empty.update(relations[:1])
        if kind in _MAKES:
            self._there.update(relations[:1])
        self._code.note(command)
        if self._whole or not self._rows or (self._open and kind in _TRAILING):
            self._barred(step)
        elif kind in _TRAILING and not (kind is Kind.PARTITION and _OF_TABLE.match(command.statement.text)):
            self._trailing.append(step)
        elif kind in _BUILDS and len(relations) == 1 and self._ordinary(relations[0]):
            self._build(step, relations[0], _BUILDS[kind])
        elif kind is Kind.FOREIGN_KEY and len(relations) == 2 and all(map(self._ordinary, relations)):
            self._key(step)
        elif self._of_relations(command) or (kind in _BUILDS and self._without_rows(step)):
            self._upkeep(step)
        else:
            self._barred(step)
        self._arm(command)

    def _arm(self, command: Command) -> None:
        """Record triggers and keys that apply to later rows."""
        relations = command.relations
        if command.kind is Kind.TRIGGER:
            self._fired.update(relations[:1])
        elif command.kind is Kind.FOREIGN_KEY or any(made.kind is Kind.FOREIGN_KEY for made in command.creates):
            self._keys[relations[0]].extend(relations[1:])
        elif command.kind is Kind.TABLE and isinstance(command.detail, TableDefinition):
            self._keys[relations[0]].extend(set(relations[1:]) - set(command.detail.inherits))

    def _of_relations(self, command: Command) -> bool:
        """Whether a command affects only the relations that it names, and these exist."""
        return (
            command.kind in _OF_RELATIONS
            and bool(command.relations)
            and self._there.issuperset(command.relations)
            and not (
                command.kind in (Kind.RULE, Kind.POLICY) and _MAY_NEED_KEY.search(command.statement.text) is not None
            )
        )

    def _upkeep(self, step: ScriptStep) -> None:
        command = step.command
        relations = [*command.relations]
        if command.kind in _REACHES_PARTS and not _ONLY.match(command.statement.text):
            relations += (part for relation in command.relations for part in self._family.below(relation))
        after: set[int] = set()
        if command.kind is Kind.CHECK and self._code.runs_in(command):
            after.update(self._all_loads())
        task = self._new(Work.COMMANDS, step, cost=self._costs.command, serial=True)
        task.after.update(after)
        for relation in relations:
            task.after.update(other.number for other in self._all_on(relation))
            task.locks[relation] = Lock.ALONE
        self._note(task, *relations, *index_of(command))

    def _without_rows(self, step: ScriptStep) -> bool:
        """Whether an index or key is on a relation without rows: a partitioned table itself, an unpopulated view."""
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
        family = self._family.around(relation)
        parts = 1 if (alone := not self._fired.isdisjoint(family)) else self._parts.get(section.number, 1)
        cost = section.size * self._costs.load_byte / parts + self._costs.command
        if alone:
            # The effect of a trigger is unknown.
            if self._trailing:
                self._begin_barrier()
            self._analyze()
            self._begin_barrier(Task(len(self.tasks), Work.ROWS, (section,), cost=cost))
            loads = [self.tasks[-1]]
            self._open = False
        else:
            earlier = self._before_rows(relation, family)
            loads = [self._new(Work.ROWS, section, cost=cost) for _ in range(parts)]
            for task in loads:
                task.after.update(earlier)
                self._note(task, relation)
        for task in loads:
            task.parts = parts
            task.locks[relation] = Lock.ALONE if parts == 1 else Lock.ROWS
        self._loads += (task.number for task in loads)
        self._sections[relation] += loads
        self._bytes[relation] += section.size
        self._rows[relation] += section.rows
        if self._bytes[relation] >= ANALYZE_FROM and relation not in self._have_statistics:
            self._unanalyzed[relation] = None
        self._whole = self._whole or not self._ordinary(relation)
        if relation not in self._summary.tables:
            self._brought = loads[-1]

    def _before_rows(self, relation: Relation, family: Collection[Relation]) -> set[int]:
        """The tasks that must be done before a table's rows are loaded."""
        earlier = {task.number for task in self._all_on(relation)}
        for other in {other for each in family for other in self._keys.get(each, ())}:
            # An existing key needs the referenced rows.
            for each in self._family.around(other):
                earlier.update(task.number for task in self._on.get(each, ()))
        if self._code.runs_with_rows_of(relation):
            earlier.update(self._all_loads())
        if relation not in self._summary.tables and self._brought is not None:
            # An extension created the table, with unknown keys and triggers.
            earlier.add(self._brought.number)
        return earlier

    def _build(self, step: ScriptStep, table: Relation, lock: Lock) -> None:
        cost = self._rows[table] * self._costs.index_row + self._bytes[table] * self._costs.index_byte
        halves = None
        if lock is Lock.ALONE and self._workers > 1 and self._bytes[table] >= DIVIDE_FROM:
            halves = in_two(step.command)
        if halves is None:
            self._builds(step, table, lock, cost)
            return
        index = self._builds(replace(step, command=halves[0]), table, Lock.BUILD, cost)
        self._builds(replace(step, command=halves[1]), table, Lock.ALONE, 0.0).after.add(index.number)

    def _builds(self, step: ScriptStep, table: Relation, lock: Lock, cost: float) -> Task:
        after = self._all_loads() if self._code.runs_in(step.command) else []
        task = self._new(Work.INDEX, step, cost=cost + self._costs.command)
        task.after.update(after)
        made = lock is Lock.ALONE and _USES_INDEX.search(step.command.statement.text) is not None
        task.after.update(other.number for other in self._all_on(table) if made or other.work is not Work.INDEX)
        task.locks[table] = lock
        self._note(task, table, *index_of(step.command))
        return task

    def _key(self, step: ScriptStep) -> None:
        table, other = step.command.relations
        self._analyze(table, other)  # the server checks the rows by a query
        task = self._new(Work.KEY, step, cost=self._rows[table] * self._costs.key_row + self._costs.command)
        for relation in (table, other):
            task.locks[relation] = Lock.KEY
            # It needs a unique index of the other table, which the statement need not name.
            task.after.update(
                each.number for each in self._on[relation] if each.work is not Work.INDEX or relation == other
            )
        self._note(task, table, other)

    def _analyze(self, *relations: Relation) -> None:
        """Gather the statistics of these large tables, by default of all, whose rows and indexes come before."""
        for relation in relations or tuple(self._unanalyzed):
            if relation not in self._unanalyzed:
                continue
            del self._unanalyzed[relation]
            loads = self._sections[relation]
            task = self._new(Work.STATISTICS, *loads[0].items, cost=self._costs.statistics)
            task.after.update(load.number for load in loads)
            task.after.update(each.number for each in self._on.get(relation, ()) if adds_statistics(each))
            task.locks[relation] = Lock.STATISTICS
            self._note(task, relation)

    def _barred(self, item: Item) -> None:
        if not self._open:
            self._begin_barrier()
        assert self._barrier is not None  # it was begun above
        items = self._barrier.items
        assert isinstance(items, list)
        items.append(item)
        self._barrier.cost += cost_of(item, self._costs)

    def _begin_barrier(self, task: Task | None = None) -> None:
        """Separate all earlier items from later ones by a barrier: the trailing items, or ``task``."""
        self._analyze()
        if task is None:
            task = Task(len(self.tasks), Work.COMMANDS, list(self._trailing), serial=True)
            task.cost = self._costs.command * len(self._trailing)
            self._trailing = []
        task.after.update(other.number for other in self._since)
        if self._barrier is not None:
            task.after.add(self._barrier.number)
        self.tasks.append(task)
        self._barrier, self._open, self._whole = task, True, False
        for each in (self._since, self._on, self._keys_on, self._loads):
            each.clear()

    def _new(self, work: Work, *items: Item, cost: float, serial: bool = False) -> Task:
        self._open = False
        task = Task(len(self.tasks), work, items, cost=cost, serial=serial)
        if self._barrier is not None:
            task.after.add(self._barrier.number)
        self.tasks.append(task)
        self._since.append(task)
        return task

    def _all_loads(self) -> list[int]:
        """The tasks to wait for until all earlier rows are loaded. If there are many, one task joins them."""
        if len(self._loads) > JOINED:
            joint = self._new(Work.COMMANDS, cost=self._costs.command)
            joint.after.update(self._loads)
            self._loads = [joint.number]
        return self._loads

    def _all_on(self, relation: Relation) -> Iterator[Task]:
        """The tasks on a relation since the barrier."""
        yield from self._on.get(relation, ())
        yield from self._keys_on.get(relation, ())

    def _note(self, task: Task, *relations: Relation) -> None:
        self._there.update(relations)
        # One table may have thousands of keys, which do not wait for each other.
        on = self._keys_on if task.work is Work.KEY else self._on
        for relation in dict.fromkeys(relations):
            on[relation].append(task)

    def read_back(self, whole: Collection[Relation]) -> None:
        """Add the READ tasks. As many sessions read a table as loaded it, each a range of its pages."""
        for relation, loads in self._sections.items():
            if relation in whole:
                after = {load.number for load in loads}
                cost = self._bytes[relation] * self._costs.read_byte / len(loads) + self._costs.command
                for _ in loads:
                    task = Task(len(self.tasks), Work.READ, loads[0].items, set(after), {relation: Lock.READ})
                    task.cost, task.parts = cost, len(loads)
                    self.tasks.append(task)
