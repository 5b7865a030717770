"""Objects that a dump's commands need but do not create: in a dump of some tables or sections only.

pg_dump writes qualified names, so a missing object can be found without a server, unless it may belong to an extension,
whose members a dump does not list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pglast.parser import ParseError

from lastgood.dump.names import Relation, parse
from lastgood.dump.rows import encodings
from lastgood.dump.rulings import tree
from lastgood.dump.script import ScriptStep, Section
from lastgood.dump.statements import Command, Kind, SequenceDefinition, Verdict
from lastgood.dump.summary import DumpSummary

_SYSTEM = re.compile(r"pg_catalog|information_schema|pg_toast|pg_temp.*|")
_BUILT_IN = "plpgsql"
# Commands that fail if an object that they name does not exist.
_STRUCTURAL = frozenset(
    {
        Kind.CHECK,
        Kind.DEFAULT,
        Kind.EXCLUSION,
        Kind.FOREIGN_KEY,
        Kind.FOREIGN_TABLE,
        Kind.IDENTITY,
        Kind.INDEX,
        Kind.INHERITANCE,
        Kind.MATERIALIZED_VIEW,
        Kind.NOT_NULL,
        Kind.POLICY,
        Kind.PRIMARY_KEY,
        Kind.PUBLICATION,
        Kind.RULE,
        Kind.SEQUENCE_POSITION,
        Kind.TABLE,
        Kind.TRIGGER,
        Kind.UNIQUE,
        Kind.VIEW,
    }
)
_IN_SCHEMA = frozenset({Kind.DOMAIN, Kind.MATERIALIZED_VIEW, Kind.SEQUENCE, Kind.TABLE, Kind.TYPE, Kind.VIEW})
_NAME = rb'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_QUALIFIED = re.compile(rb"(%s)\.(%s)" % (_NAME, _NAME))
# The server creates these together with a type that the dump creates.
_MADE_ALONG = re.compile(r"_.*|.*multirange")


@dataclass(frozen=True, slots=True)
class MissingObject:
    """An object that the dump does not create, and the first command that needs it, in words."""

    name: str
    needed_by: str


def missing_objects(summary: DumpSummary) -> tuple[MissingObject, ...]:
    """The objects that are certainly missing, each once, in the order in which they are needed."""
    names = _Names(summary)
    by_relation: dict[Relation, MissingObject] = {}
    for created in summary.created:
        # A dump of selected tables does not create their schemas.
        relation = parse(created.identity, "") if created.kind in _IN_SCHEMA else None
        if relation is not None and names.schemas.absent(relation.schema):
            schema = f"schema {Relation('', relation.schema)}"
            by_relation.setdefault(
                Relation("", relation.schema), MissingObject(schema, f"{created.kind} {created.identity}")
            )
    for item in summary.script.items:
        if isinstance(item, Section):
            relation = item.start.relation
            if names.open(relation):
                by_relation.setdefault(relation, MissingObject(str(relation), "its section of rows"))
        elif isinstance(item, ScriptStep) and item.command.verdict is Verdict.RUN and item.command.kind in _STRUCTURAL:
            command = item.command
            for name in names.of(command):
                by_relation.setdefault(name, MissingObject(str(name), _command_title(command)))
    return tuple(by_relation.values())


def _command_title(command: Command) -> str:
    if command.creates:
        return f"{command.creates[0].kind} {command.creates[0].identity}"
    return f"{command.kind} of {command.relations[0]}" if command.relations else str(command.kind)


class _Schemas:
    """The schemas that a dump covers completely."""

    def __init__(self, summary: DumpSummary) -> None:
        extensions = [each for name, each in summary.extensions.items() if name != _BUILT_IN]
        self._all = not extensions
        self._theirs = {each.schema for each in extensions}
        self._made = {"public", *(made.identity for made in summary.created if made.kind is Kind.SCHEMA)}

    def certain(self, schema: str) -> bool:
        """Whether the dump creates every object in the schema. An extension may create schemas of its own."""
        if _SYSTEM.fullmatch(schema):
            return False
        return self._all or (None not in self._theirs and schema not in self._theirs and self._makes(schema))

    def absent(self, schema: str) -> bool:
        """Whether neither the dump nor one of its extensions creates the schema."""
        return self._all and _SYSTEM.fullmatch(schema) is None and not self._makes(schema)

    def _makes(self, schema: str) -> bool:
        return schema in self._made or str(Relation("", schema)) in self._made


def _created_relations(summary: DumpSummary) -> Iterator[Relation]:
    for named, definition in summary.tables.items():
        yield named
        yield from (each.sequence for each in definition.sequences)
    for made in summary.created:
        name = made.identity.partition("(")[0] if "(" in made.identity else made.identity
        own, on, table = name.rpartition(" on ")
        if (relation := parse(name if not on else table, "")) is not None and not on:
            yield relation
        elif on and relation is not None and (constraint := parse(own, relation.schema)) is not None:
            yield Relation(relation.schema, constraint.name)
    for item in summary.script.items:
        if isinstance(item, ScriptStep) and isinstance(item.command.detail, SequenceDefinition):
            yield item.command.detail.sequence


class _Names:
    """The names in a dump's commands; each is resolved once."""

    def __init__(self, summary: DumpSummary) -> None:
        self._made = set(_created_relations(summary))
        self.schemas = _Schemas(summary)
        self._codec = encodings.codec(summary.encoding) or "utf-8"
        self._open: dict[tuple[bytes, bytes], Relation | None] = {}

    def open(self, relation: Relation) -> bool:
        """Whether neither the dump nor one of its extensions creates the relation."""
        return relation not in self._made and self.schemas.certain(relation.schema)

    def of(self, command: Command) -> Iterator[Relation]:
        """Objects that a command names but no command creates. A search in its text comes first: few commands need a
        parse."""
        yield from filter(self.open, command.relations)
        pairs = {self._of_pair(pair) for pair in _QUALIFIED.findall(command.statement.text)} - {None}
        if pairs:
            try:
                named = list(tree.qualified(command.statement.text.decode(self._codec)))
            except (ParseError, RecursionError, ValueError):
                return
            yield from (name for name in named if name in pairs and not _MADE_ALONG.fullmatch(name.name))

    def _of_pair(self, pair: tuple[bytes, bytes]) -> Relation | None:
        if pair not in self._open:
            name = parse(b".".join(pair).decode(self._codec, "replace"), "")
            self._open[pair] = name if name is not None and self.open(name) else None
        return self._open[pair]
