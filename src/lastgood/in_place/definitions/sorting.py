"""The commands of a restore point, sorted by what becomes of them in place: staged, tied, or not ours."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from lastgood.dump.names import Relation
from lastgood.dump.rows import encodings
from lastgood.dump.rulings import schema_of
from lastgood.dump.rulings.tree import Node, parse, qualified
from lastgood.dump.script import ScriptStep, State
from lastgood.dump.search_path import SearchPath, path_of
from lastgood.dump.statements import Command, Kind, Setting, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.in_place.ties import EventTrigger

# Objects without a schema that may use types or functions of the schemas that go back. A dump of chosen schemas leaves
# them out, and no move takes them along.
_OUTSIDE = frozenset({Kind.CAST, Kind.TRANSFORM, Kind.LANGUAGE, Kind.FOREIGN_DATA_WRAPPER, Kind.ACCESS_METHOD})
_ON_TABLES = frozenset({Kind.TRIGGER, Kind.POLICY, Kind.RULE})
_ATTRIBUTES = frozenset({Kind.OWNER, Kind.COMMENT, Kind.GRANT, Kind.SECURITY_LABEL})
_EVENT_TRIGGERS = frozenset({Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE})
_OF_A_SESSION = frozenset({Kind.SETTING, Kind.SESSION_AUTHORIZATION, Kind.TRANSACTION, Kind.PSQL})


@dataclass(frozen=True)
class Placed:
    """A command of a restore point, with the schema of its object (None without one) and the codec of its text."""

    step: ScriptStep
    schema: str | None
    codec: str

    @property
    def command(self) -> Command:
        """The command."""
        return self.step.command

    @property
    def text(self) -> str:
        """The command's text."""
        return self.command.statement.text.decode(self.codec)

    @property
    def node(self) -> Node:
        """The root of its syntax tree."""
        return parse(self.text)[0]

    @cached_property
    def object_class(self) -> str | None:
        """The class of its object, for an owner, a comment, a label or a privilege."""
        return object_class(self.node)

    def refers_to(self, schemas: Collection[str]) -> bool:
        """Whether it names a relation, function or type of one of these schemas."""
        return any(name.schema in schemas for name in qualified(self.text))


def placed(summary: DumpSummary) -> Iterator[Placed]:
    """The commands of a restore point that a restore runs, without settings and rows."""
    codec = encodings.codec(summary.encoding) or "utf-8"
    path, state = SearchPath(), None
    for item in summary.script.items:
        if not isinstance(item, ScriptStep) or item.command.verdict is not Verdict.RUN:
            continue
        if item.command.kind in _OF_A_SESSION:
            continue
        if item.state is not state:
            state = item.state
            path = _path(item.state, summary.tables)
        yield Placed(item, schema_of(item.command, path=path, encoding=codec), codec)


def _path(state: State, tables: Collection[Relation]) -> SearchPath:
    for name, command in state:
        if name == "search_path" and isinstance(command.detail, Setting):
            return path_of(command.detail.value, tables)
    return SearchPath()


def is_tie(each: Placed, schemas: Collection[str]) -> bool:
    """Whether a command makes a tie of ``schemas`` to the rest of the database, or changes one. It is not staged: the
    swap makes ties again. Foreign keys are ties too, and are staged by themselves."""
    kind = each.command.kind
    if kind in (Kind.PUBLICATION, Kind.DEFAULT_PRIVILEGES) or kind in _EVENT_TRIGGERS:
        return True
    if kind in _ON_TABLES:
        return each.schema not in schemas
    return kind in _ATTRIBUTES and each.object_class in (
        "OBJECT_SCHEMA",
        "OBJECT_PUBLICATION",
        "OBJECT_EVENT_TRIGGER",
    )


def object_class(node: Node) -> str | None:
    """The class of the object of an owner, a comment, a label or a privilege, as the parser names it."""
    found: str | None = node.objectType or node.objtype
    return found


def schemas(summary: DumpSummary) -> Mapping[str, str | None]:
    """The schemas that a restore point has, each with the owner that it names; None if it names none."""
    found: dict[str, str | None] = {}
    for each in placed(summary):
        if each.command.kind is Kind.SCHEMA:
            found.setdefault(each.node.schemaname)
        elif each.command.kind is Kind.OWNER and object_class(each.node) == "OBJECT_SCHEMA":
            found[each.node.object.sval] = each.node.newowner.rolename
        elif each.schema == "public":
            found.setdefault("public")  # which pg_dump does not create
    return found


def outside(every: Iterable[Placed], schemas: Collection[str]) -> list[str]:
    """The user-defined objects without a schema that refer to ``schemas``, in words: they can't be staged or moved."""
    return [
        f"{each.command.kind} {each.command.creates[0].identity}"
        for each in every
        if each.command.kind in _OUTSIDE and each.command.creates and each.refers_to(schemas)
    ]


def event_triggers(every: Iterable[Placed], schemas: Collection[str]) -> tuple[EventTrigger, ...]:
    """The event triggers of a restore point whose functions are in ``schemas``. They are never created in a scratch
    database, where they would run."""
    found: dict[str, EventTrigger] = {}
    for each in every:
        if each.command.kind is Kind.EVENT_TRIGGER:
            if (created := _event_trigger(each.node, schemas)) is not None:
                found[created.name] = created
        elif each.command.kind is Kind.EVENT_TRIGGER_STATE:
            node = each.node
            _change(found, node.trigname, enabled=_letter(node.tgenabled))
        elif each.command.kind in _ATTRIBUTES and each.object_class == "OBJECT_EVENT_TRIGGER":
            node = each.node
            if each.command.kind is Kind.OWNER:
                _change(found, node.object.sval, owner=node.newowner.rolename)
            elif each.command.kind is Kind.COMMENT:
                _change(found, node.object.sval, comment=node.comment)
    return tuple(found[name] for name in sorted(found))


def _event_trigger(node: Node, schemas: Collection[str]) -> EventTrigger | None:
    *schema, function = [part.sval for part in node.funcname]
    if not schema or schema[0] not in schemas:
        return None
    conditions: Mapping[str, tuple[str, ...]] = {
        one.defname: tuple(tag.sval for tag in one.arg or ()) for one in node.whenclause or ()
    }
    return EventTrigger(
        name=node.trigname,
        event=node.eventname,
        tags=conditions.get("tag", ()),
        function_schema=schema[0],
        function=function,
    )


def _change(found: dict[str, EventTrigger], name: str, **attributes: str) -> None:
    if name in found:
        found[name] = found[name].model_copy(update=attributes)


def _letter(value: object) -> str:
    """A letter of the syntax tree, whose JSON has it as a text or as a number."""
    return chr(value) if isinstance(value, int) else str(value)
