"""The tasks of a restore: their kinds, their costs, and their conflicts.

A primary key or unique constraint in two steps: its index, during which other sessions build indexes and read rows,
and then the constraint, which adopts the index instantly. A single step would lock out all other sessions.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from lastgood.dump.names import Relation, parse
from lastgood.dump.script import Bulk, Item, Script, ScriptStep, Section
from lastgood.dump.statements import Command, Kind
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
    reads a table back that was loaded from one section, or one of its parts; STATISTICS gathers those of its table."""

    COMMANDS = "commands"
    ROWS = "rows"
    DATA = "data"
    INDEX = "index"
    KEY = "foreign key"
    READ = "read back"
    STATISTICS = "statistics"


class Lock(Enum):
    """The lock of a task on a table, with which conflicting tasks are kept apart."""

    READ = "ACCESS SHARE"
    ROWS = "ROW EXCLUSIVE"
    STATISTICS = "SHARE UPDATE EXCLUSIVE"
    BUILD = "SHARE"
    KEY = "SHARE ROW EXCLUSIVE"
    ALONE = "ACCESS EXCLUSIVE"


_CONFLICTS: Mapping[Lock, frozenset[Lock]] = {
    Lock.READ: frozenset({Lock.ALONE}),
    Lock.ROWS: frozenset({Lock.BUILD, Lock.KEY, Lock.ALONE}),
    Lock.STATISTICS: frozenset({Lock.STATISTICS, Lock.BUILD, Lock.KEY, Lock.ALONE}),
    Lock.BUILD: frozenset({Lock.ROWS, Lock.STATISTICS, Lock.KEY, Lock.ALONE}),
    Lock.KEY: frozenset({Lock.ROWS, Lock.STATISTICS, Lock.BUILD, Lock.KEY, Lock.ALONE}),
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
    if any(isinstance(item, ScriptStep) and item.command.kind is Kind.REFRESH for item in task.items):
        return Effort.REFRESH
    return Effort.DATA if any(isinstance(item, Bulk) for item in task.items) else Effort.COMMANDS


_EFFORTS = {
    Work.ROWS: Effort.ROWS,
    Work.DATA: Effort.DATA,
    Work.INDEX: Effort.INDEX,
    Work.KEY: Effort.KEY,
    Work.READ: Effort.READ,
    Work.STATISTICS: Effort.STATISTICS,
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
    in_dump = with_statistics(script.items)
    return frozenset(relation for relation, size in rows.items() if size < ANALYZE_FROM and relation not in in_dump)


def with_statistics(items: Iterable[Item]) -> frozenset[Relation]:
    """The tables whose statistics the dump has."""
    return frozenset(
        relation
        for item in items
        if isinstance(item, ScriptStep) and item.command.kind is Kind.STATISTICS_CALL
        for relation in item.command.relations
    )


def analyzed_last(script: Script, summary: DumpSummary, costs: Costs) -> float:
    """The approximate seconds of one worker for the statistics that are gathered at the end."""
    views = sum(isinstance(item, ScriptStep) and item.command.kind is Kind.REFRESH for item in script.items)
    others = views + sum(table.partitioned for table in summary.tables.values())
    return costs.analyzed(len(small_tables(script)), others)


def cost_of(item: Item, costs: Costs) -> float:
    """The cost of an item that is run unchanged."""
    if isinstance(item, Bulk):
        return costs.command + (item.end - item.begin if item.end else 0) * costs.data_byte
    if isinstance(item, ScriptStep) and item.command.kind is Kind.REFRESH:
        return costs.refresh
    return costs.command


_NAME = rb'(?:"(?:[^"]|"")+"|[\w$]+)'
# Exactly the form that pg_dump writes in the ordinary case. Others (DEFERRABLE, WITH, WITHOUT OVERLAPS) stay whole.
_PLAIN = re.compile(
    rb"ALTER\s+TABLE\s+ONLY\s+(?P<table>%(name)s(?:\.%(name)s)?)\s+ADD\s+CONSTRAINT\s+(?P<constraint>%(name)s)\s+"
    rb"(?P<kind>PRIMARY\s+KEY|UNIQUE)\s*(?P<columns>\(\s*%(name)s(?:\s*,\s*%(name)s)*\s*\))\s*"
    rb"(?P<include>INCLUDE\s*\(\s*%(name)s(?:\s*,\s*%(name)s)*\s*\))?\s*;?\s*" % {b"name": _NAME}
)


def in_two(command: Command) -> tuple[Command, Command] | None:
    """The command that builds the index and the one that adds the constraint with it; None for a command that can't be
    split. The result is the same as that of the one command: the index has the constraint's name."""
    found = _PLAIN.fullmatch(command.statement.text)
    if found is None:
        return None
    index = b"CREATE UNIQUE INDEX %(constraint)s ON %(table)s %(columns)s" % _named(found)
    if found["include"]:
        index += b" " + found["include"]
    constraint = (
        b"ALTER TABLE ONLY %(table)s ADD CONSTRAINT %(constraint)s %(kind)s USING INDEX %(constraint)s" % _named(found)
    )
    return _with(command, index), _with(command, constraint)


def _named(found: re.Match[bytes]) -> dict[bytes, bytes]:
    return {name.encode(): text for name, text in found.groupdict().items() if text is not None}


def _with(command: Command, text: bytes) -> Command:
    """The command with another text; its place in the dump and its object stay the same."""
    return replace(command, statement=replace(command.statement, text=text))


# An expression between the parentheses of an index; a column's options may look like one.
_EXPRESSION = re.compile(rb"\bUSING\s+\S+\s+\([^()]*\(", re.IGNORECASE)


def adds_statistics(task: Task) -> bool:
    """Whether statistics of a table are incomplete without the object that a task creates."""
    return any(
        isinstance(item, ScriptStep)
        and (item.command.kind is Kind.STATISTICS or _EXPRESSION.search(item.command.statement.text) is not None)
        for item in task.items
    )


def divided(tasks: Sequence[Task], workers: int) -> dict[int, int]:
    """The number of parts for each section to divide: sections whose path to the end is longer than one worker's share
    of all work."""
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


def index_of(command: Command) -> tuple[Relation, ...]:
    """The index that a command creates, as a relation: the index of a constraint has the constraint's name."""
    schema = command.relations[0].schema
    # An index's identity is qualified; a constraint's is its name, then the table's: ``a_pkey on public.a``.
    names = (one.identity.rpartition(" on ")[0] or one.identity for one in command.creates)
    found = (parse(name, schema) for name in names)
    return tuple(relation for relation in found if relation is not None)
