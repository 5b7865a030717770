"""The deferrable part of a dump: work that can wait until the application is available again.

Two kinds of work take long and are not needed for the first query: an unused index, and the server's check of every row
of a foreign key. Primary keys, unique and exclusion constraints and unique indexes are never deferred: they keep the
data consistent, and ON CONFLICT, foreign keys and replica identities depend on them. Partitioned indexes and their
partitions are never deferred either: the whole is only valid when all partitions are.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lastgood.dump import names
from lastgood.dump.deferred_task import FOLLOWING, MEANINGFUL, DeferredTask, concurrently, not_valid
from lastgood.dump.lexer.tokens import CopyStart, MetaCommand, Statement
from lastgood.dump.names import Relation, quoted
from lastgood.dump.rows import encodings
from lastgood.dump.rulings.code import PLANNED
from lastgood.dump.rulings.tree import parse, shape
from lastgood.dump.script import Item, Script, ScriptStep
from lastgood.dump.statements import Command, Kind, Setting, TableDefinition, Verdict

_Text = Statement | CopyStart | MetaCommand
_ON_INDEX = re.compile(rb"COMMENT\s+ON\s+INDEX\b", re.IGNORECASE)
_DEPENDS = re.compile(rb"ALTER\s+INDEX\b", re.IGNORECASE)
# Functions of these run wherever values of their types are compared or converted.
_EVERYWHERE = frozenset({Kind.CAST, Kind.OPERATOR, Kind.OPERATOR_CLASS})
_STATISTICS_OF = re.compile(rb"'schemaname',\s*'((?:[^']|'')*)',\s*'relname',\s*'((?:[^']|'')*)'")


@dataclass(frozen=True, slots=True)
class Division:
    """The division of a dump into work before and after the reopening. ``later`` is in the order of execution."""

    later: tuple[DeferredTask, ...] = ()
    _instead: Mapping[_Text, bytes | None] = field(default_factory=dict)

    def immediate(self, script: Script) -> Script:
        """The script without the deferred work."""
        return replace(
            script, items=[immediate for item in script.items if (immediate := self._immediate(item)) is not None]
        )

    def _immediate(self, item: Item) -> Item | None:
        if not isinstance(item, ScriptStep) or item.command.statement not in self._instead:
            return item
        text = self._instead[item.command.statement]
        if text is None:
            return None
        statement = replace(item.command.statement, text=text)
        return replace(item, command=replace(item.command, statement=statement))

    @property
    def indexes(self) -> tuple[Relation, ...]:
        """The deferred indexes."""
        return tuple(Relation(each.table.schema, each.name) for each in self.later if each.kind is Kind.INDEX)

    @property
    def not_valid_keys(self) -> frozenset[tuple[Relation, str]]:
        """The foreign keys, by table and name, that are added NOT VALID."""
        return frozenset((each.table, each.name) for each in self.later if each.kind is Kind.FOREIGN_KEY)


@dataclass(frozen=True, slots=True)
class _RecordedCommand:
    """A command that may be deferred or affect deferred ones, with the settings in force."""

    command: Command
    settings: tuple[str, ...]
    codec: str

    @property
    def text(self) -> str:
        return self.command.statement.text.decode(self.codec)


@dataclass(slots=True)
class Deferrable:
    """The commands of a dump that may be deferred or affect deferred ones."""

    _settings: dict[str, str] = field(default_factory=dict)
    _codec: str = "utf-8"
    _partitioned: set[Relation] = field(default_factory=set)
    _tables: set[Relation] = field(default_factory=set)
    _noted: list[_RecordedCommand] = field(default_factory=list)
    _named: set[tuple[str, str]] = field(default_factory=set)
    _confined: bool = False
    _coded: set[Relation] = field(default_factory=set)
    _anywhere: bool = False  # code may run in the work on any table

    @classmethod
    def of(cls, script: Script, *, confined: bool = False) -> Deferrable:
        """The commands of a script. ``confined``: without work for which the operator would run code of the dump."""
        deferrable = cls(_confined=confined)
        for item in script.items:
            if isinstance(item, ScriptStep):
                deferrable.note(item.command)
        return deferrable

    def note(self, command: Command) -> None:
        """Record the next command of the dump, unless a restore leaves it out."""
        if command.verdict is not Verdict.RUN:
            return
        match command.detail:
            case Setting(name=name, value=value):
                if name == "client_encoding":
                    self._codec = encodings.codec(value or "") or self._codec
                elif name in MEANINGFUL:
                    self._settings[name] = command.statement.text.decode(self._codec)
            # Without its schema it could not be found later.
            case TableDefinition(relation=relation, partitioned=partitioned, foreign=False) if relation.schema:
                self._tables.add(relation)
                if partitioned:
                    self._partitioned.add(relation)
        if command.kind is Kind.MATERIALIZED_VIEW:
            self._tables.update(view for view in command.relations if view.schema)
        if self._confined:
            self._coded.update(command.relations if not PLANNED.isdisjoint(command.code) else ())
            self._anywhere = self._anywhere or command.kind in _EVERYWHERE
            # Before 17, triggers enabled as ALWAYS or REPLICA fire on all commands of an operator.
            self._anywhere = self._anywhere or command.kind is Kind.EVENT_TRIGGER_STATE
        if self._concerns(command):
            self._noted.append(_RecordedCommand(command, tuple(self._settings.values()), self._codec))

    def _concerns(self, command: Command) -> bool:
        text = command.statement.text
        if command.kind is Kind.INDEX:
            index = names.parse(command.creates[0].identity, "")
            if index is not None:
                self._named.add((index.schema, index.name))
            return True
        if command.kind is Kind.COMMENT:
            return _ON_INDEX.match(text) is not None
        if command.kind is Kind.STATISTICS_CALL:
            # Statistics of tables are large (histograms of every column) and irrelevant here.
            return self._statistics_of(text) in self._named
        return command.kind in (
            Kind.FOREIGN_KEY,
            Kind.PRIMARY_KEY,
            Kind.UNIQUE,
            Kind.PARTITION,
            Kind.TABLE_PROPERTY,
        )

    def _statistics_of(self, text: bytes) -> tuple[str, str]:
        match = _STATISTICS_OF.search(text)
        if match is None:
            return "", ""
        schema, name = (part.decode(self._codec, "replace").replace("''", "'") for part in match.groups())
        return schema, name

    def divide(self, in_use: Collection[Relation], *, server_major: int = 0, keys_too: bool = True) -> Division:
        """Divide the dump; indexes ``in_use`` are not deferred. Only commands that are fully understood are deferred;
        foreign keys only with ``keys_too``.

        Before 18 (``server_major``) a partitioned table can't have a NOT VALID foreign key, and validating a key that
        references such a table skips its partitions: these keys are not deferred.
        """
        if self._anywhere:
            return Division()
        instead: dict[_Text, bytes | None] = {}
        indexes: dict[Relation, _Index] = {}
        keys: list[_Key] = []
        covered: list[tuple[Relation, tuple[str, ...]]] = []
        needed: set[Relation] = set(in_use)
        ordinary = self._tables - self._partitioned - self._coded
        for noted in self._noted:
            command = noted.command
            (node,) = parse(noted.text)
            if command.kind is Kind.INDEX:
                index = _Index(noted, node)
                if node.unique and node.whereClause is None:
                    covered.append((index.table, index.columns))
                plain = index.table in ordinary and not index.only
                if plain and not node.unique and not _calls_user_function(shape(noted.text)):
                    indexes[index.relation] = index
            elif command.kind is Kind.FOREIGN_KEY:
                keys.append(_Key(noted, node))
            elif command.kind in (Kind.PRIMARY_KEY, Kind.UNIQUE):
                columns = tuple(key.sval for key in node.cmds[0].def_.keys or ())
                covered.append((command.relations[0], columns))
            else:
                _follow(self, noted, node, indexes, needed)
        needed.update(_for_keys(keys, covered, indexes))
        later = []
        for relation, index in indexes.items():
            statement = concurrently(index.noted.text)
            if relation in needed or statement is None:
                continue
            for each in (index.noted, *index.followers, *index.statistics):
                instead[each.command.statement] = None
            later.append(
                DeferredTask(
                    Kind.INDEX,
                    index.table,
                    relation.name,
                    index.noted.settings,
                    (statement, *(each.text for each in index.followers)),
                )
            )
        fit = self._tables - self._coded if server_major >= 18 else ordinary
        for key in keys if keys_too else ():
            rewritten = not_valid(key.noted.text) if {key.table, key.references} <= fit else None
            if rewritten is None:
                continue
            instead[key.noted.command.statement] = rewritten.encode(key.noted.codec)
            statement = f"ALTER TABLE {key.table} VALIDATE CONSTRAINT {quoted(key.name)}"
            later.append(DeferredTask(Kind.FOREIGN_KEY, key.table, key.name, key.noted.settings, (statement,)))
        return Division(tuple(later), instead)


class _Index:
    """A CREATE INDEX. ``columns`` are its leading plain columns, empty if the first one is an expression."""

    def __init__(self, noted: _RecordedCommand, node: Any) -> None:
        self.noted = noted
        self.table = noted.command.relations[0]
        self.relation = Relation(self.table.schema, node.idxname)
        self.only = not node.relation.inh  # ON ONLY: on a partitioned table
        self.partial = node.whereClause is not None
        self.method = node.accessMethod or "btree"
        plain = [element.name for element in node.indexParams]
        self.columns: tuple[str, ...] = tuple(plain[: plain.index(None)] if None in plain else plain)
        self.followers: list[_RecordedCommand] = []
        self.statistics: list[_RecordedCommand] = []  # never run: building the index and ANALYZE create better ones


class _Key:
    """An ALTER TABLE … ADD FOREIGN KEY."""

    def __init__(self, noted: _RecordedCommand, node: Any) -> None:
        constraint = node.cmds[0].def_
        self.noted = noted
        self.table = noted.command.relations[0]
        self.references = noted.command.relations[-1]
        self.name: str = constraint.conname or ""
        self.columns = tuple(column.sval for column in constraint.fk_attrs or ())


def _follow(
    gathered: Deferrable, noted: _RecordedCommand, node: Any, indexes: dict[Relation, _Index], needed: set[Relation]
) -> None:
    """Process a statement that names an index: it runs after the index, or the index is not deferred."""
    command = noted.command
    if node.tag == "CommentStmt":
        schema = command.relations[0].schema if command.relations else ""
        index = indexes.get(names.of_list(node.object, schema))
        if index is not None:
            index.followers.append(noted)
        elif len(node.object) == 1:  # unqualified: an old dump
            needed.update(relation for relation in indexes if relation.name == node.object[0].sval)
        return
    if command.kind is Kind.STATISTICS_CALL:
        index = indexes.get(Relation(*gathered._statistics_of(command.statement.text)))
        if index is not None:
            index.statistics.append(noted)
        return
    if node.tag != "AlterTableStmt":
        if _DEPENDS.match(command.statement.text):
            needed.update(Relation(node.relation.schemaname or r.schema, node.relation.relname) for r in indexes)
        return
    for mentioned in _named_relations(command, node):
        index = indexes.get(mentioned)
        if index is None:
            continue
        if len(node.cmds) == 1 and node.cmds[0].subtype in FOLLOWING:
            index.followers.append(noted)
        else:
            needed.add(mentioned)


def _named_relations(command: Command, node: Any) -> Iterator[Relation]:
    """The relations that an ALTER TABLE or ALTER INDEX names, and the indexes that it names without a schema, which
    have that of their table."""
    yield from command.relations
    for each in node.cmds:
        if each.subtype == "AT_ClusterOn":
            yield Relation(command.relations[0].schema, each.name)
        elif each.subtype == "AT_ReplicaIdentity" and each.def_.name:
            yield Relation(command.relations[0].schema, each.def_.name)


def _for_keys(
    keys: list[_Key], covered: list[tuple[Relation, tuple[str, ...]]], indexes: dict[Relation, _Index]
) -> Iterator[Relation]:
    """For each foreign key, the smallest index for finding its rows when a referenced row is deleted, unless a unique
    index serves that purpose."""
    leading: defaultdict[Relation, list[tuple[str, ...]]] = defaultdict(list)
    for table, columns in covered:
        leading[table].append(columns)
    usable: defaultdict[Relation, list[_Index]] = defaultdict(list)
    for index in indexes.values():
        if not index.partial and index.method in ("btree", "hash"):
            usable[index.table].append(index)
    for key in keys:
        if any(_leads(columns, key.columns) for columns in leading[key.table]):
            continue
        fitting = [index for index in usable[key.table] if _leads(index.columns, key.columns)]
        if fitting:
            yield min(fitting, key=lambda index: len(index.columns)).relation


def _leads(columns: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return bool(wanted) and set(columns[: len(wanted)]) == set(wanted)


def _calls_user_function(tree: Any) -> bool:
    """Whether a user-defined function is called, which a restore may have to repair first."""
    if isinstance(tree, dict):
        name = tree.get("FuncCall", {}).get("funcname", ())
        if len(name) > 1 and name[0]["String"].get("sval") != "pg_catalog":
            return True
        return any(map(_calls_user_function, tree.values()))
    return isinstance(tree, list) and any(map(_calls_user_function, tree))
