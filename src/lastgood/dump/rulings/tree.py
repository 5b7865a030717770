"""PostgreSQL's syntax tree of a statement, from its parser's JSON output.

pglast can build Python objects from the same tree, but that takes ten times as long, and a schema has thousands of
statements.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from pglast.parser import ParseError, parse_sql_json

from lastgood.dump import names

_DEEP = 10_000
# Words that our parser reserves but older versions of pg_dump write as names: SYSTEM_USER is reserved since 16.
_RESERVED_SINCE = re.compile(r'(?<![\w"$])(system_user)(?![\w"$])', re.IGNORECASE)


class Node:
    """A node: ``tag`` is its class in PostgreSQL's sources, empty if its position implies it. Its attributes are the
    class's fields: nodes, tuples of nodes, texts (including enumerations) and numbers; None for empty, false or zero. A
    field whose name is a Python keyword has an underscore appended.
    """

    def __init__(self, tag: str, fields: dict[str, Any]) -> None:
        self.tag = tag
        self._fields = fields

    @property
    def given(self) -> frozenset[str]:
        """The names of the fields that are not empty, by their names in PostgreSQL's sources."""
        return frozenset(self._fields)

    def __getattr__(self, name: str) -> Any:
        # Called for the first use only: then it is an attribute like any other.
        value = self.__dict__[name] = _node(self._fields.get(name.removesuffix("_")))
        return value


def parse(text: str) -> tuple[Node, ...]:
    """The statements in ``text``. Raises pglast.parser.ParseError, and RecursionError for text that is nested too
    deeply."""
    try:
        tree = parse_sql_json(text)
    except ParseError:
        as_names = _RESERVED_SINCE.sub(r'"\1"', text)
        if as_names == text:
            raise
        tree = parse_sql_json(as_names)
    try:
        parsed = json.loads(tree)
    except RecursionError:
        # Each operator of a chain (a || b || c …) is a level of its own: 1000 are possible.
        limit = sys.getrecursionlimit()
        sys.setrecursionlimit(max(limit, _DEEP))
        try:
            parsed = json.loads(tree)
        finally:
            sys.setrecursionlimit(limit)
    return tuple(_node(raw["stmt"]) for raw in parsed["stmts"])


def only(text: str | bytes) -> Node | None:
    """The single statement in ``text``; None if it is not exactly one that the parser accepts."""
    try:
        nodes = parse(text if isinstance(text, str) else text.decode("utf-8", "replace"))
    except (ParseError, RecursionError):
        return None
    return nodes[0] if len(nodes) == 1 else None


def _node(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) == 1:
            ((tag, fields),) = value.items()
            if tag[:1].isupper():
                return _node(fields.get("items", [])) if tag == "List" else Node(tag, fields)
        return Node("", value)
    return tuple(map(_node, value)) if isinstance(value, list) else value


def qualified(text: str) -> Iterator[names.Relation]:
    """The qualified names of relations, functions and types in ``text``. Raises as ``parse`` does."""
    for _, fields in within(parse(text)):
        if "relname" in fields and fields.get("schemaname"):
            yield names.Relation(fields["schemaname"], fields["relname"])
        parts = fields.get("funcname") or fields.get("names")
        if isinstance(parts, list) and len(parts) == 2:
            schema, own = (part.get("String", {}).get("sval") for part in parts)
            if schema and own:
                yield names.Relation(schema, own)
        # nextval('public.numbers'::regclass)
        of_type = fields.get("typeName")  # a list in CREATE TYPE
        if isinstance(of_type, dict) and of_type.get("names", [])[-1:] == _REGCLASS:
            constant = fields.get("arg", {}).get("A_Const", {}).get("sval", {}).get("sval", "")
            relation = names.parse(constant, "")
            if relation is not None and relation.schema:
                yield relation


_REGCLASS = [{"String": {"sval": "regclass"}}]


def within(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node in one or more nodes, including themselves: its class, or its field name if that implies the class,
    and its raw fields."""
    waiting: list[Any] = [node]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Node):
            value = {value.tag: value._fields}
        if isinstance(value, list | tuple):
            waiting.extend(value)
        elif isinstance(value, dict):
            for key, each in value.items():
                if isinstance(each, dict):
                    yield key, each
                waiting.append(each)


def shape(text: str) -> list[Any]:
    """The syntax tree of each statement in ``text`` as plain data without positions: equal for equivalent texts. Raises
    as ``parse`` does."""
    return [_unplaced(raw["stmt"]) for raw in json.loads(parse_sql_json(text))["stmts"]]


def _unplaced(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unplaced(each) for key, each in value.items() if key != "location"}
    return [_unplaced(each) for each in value] if isinstance(value, list) else value
