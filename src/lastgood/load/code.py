"""Detection of statements that run functions of the dump itself: these may read any table, so the rows come first."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from pglast.parser import ParseError

from lastgood.dump.names import Relation, parse
from lastgood.dump.rulings.tree import shape
from lastgood.dump.statements import Command, Kind, TableDefinition

_WORD = re.compile(rb"[\w$\x80-\xff]+")
_COMPUTES = re.compile(rb"\b(?:CHECK|GENERATED)\b", re.IGNORECASE)
_ROUTINES = frozenset({Kind.FUNCTION, Kind.AGGREGATE})


class Code:
    """The functions of a script, collected from its commands in their order. ``strict``: checks stay in force while
    rows are loaded; otherwise the load drops checks that call functions, unless a type holds them."""

    def __init__(self, *, strict: bool = False) -> None:
        self._strict = strict
        self._functions: set[bytes] = set()
        self._operators: set[str] = set()
        self._generated: set[Relation] = set()  # tables that compute a column by such a function
        self._checked: set[Relation] = set()  # tables with a check that calls one
        self._columns: dict[Relation, frozenset[str]] = {}  # their types, as far as these are in ``_types``
        self._types: set[str] = set()  # types that call one for each value
        self._stuck: set[str] = set()  # those types whose check the server can't add later
        self._parents: defaultdict[Relation, tuple[Relation, ...]] = defaultdict(tuple)

    def note(self, command: Command) -> None:
        """Record the objects that a command creates."""
        for made in command.creates:
            if made.kind in _ROUTINES:
                self._functions.add(_bare(made.identity.partition("(")[0]))
            elif made.kind is Kind.OPERATOR:
                self._operators.add(made.identity.partition("(")[0].rpartition(".")[2])
        if not self._functions:
            return
        match command.kind, command.detail:
            case ((Kind.TABLE | Kind.FOREIGN_TABLE), TableDefinition() as definition):
                self._table(command, definition)
            case Kind.TYPE, TableDefinition() as definition if held := self._held(definition):
                self._types.add(str(definition.relation))
                self._stuck.update((*held, str(definition.relation)))
            case ((Kind.DOMAIN | Kind.DOMAIN_CONSTRAINT), _):
                self._domain(command)
            case Kind.CHECK, _ if self.runs_in(command):
                self._checked.update(command.relations[:1])

    def runs_in(self, command: Command) -> bool:
        """Whether an index or a constraint calls such a function."""
        return self._mentioned(command) and self._runs(_tree(command))

    def runs_with_rows_of(self, relation: Relation) -> bool:
        """Whether such a function is called for each row that is loaded into a table."""
        return (
            relation in self._generated
            or (self._strict and relation in self._checked)
            or not self._columns.get(relation, frozenset()).isdisjoint(self._types if self._strict else self._stuck)
            or any(map(self.runs_with_rows_of, self._parents[relation]))
        )

    def _table(self, command: Command, definition: TableDefinition) -> None:
        relation = definition.relation
        if definition.inherits:
            self._parents[relation] = definition.inherits
        if held := self._held(definition):
            self._columns[relation] = held
            self._stuck.update(each.type[:-2] for each in definition.columns if each.type.endswith("[]"))
        if _COMPUTES.search(command.statement.text) and self._mentioned(command):
            for constraint in _constraints(_tree(command)):
                if self._runs(constraint):
                    generated = constraint["contype"] == "CONSTR_GENERATED"
                    (self._generated if generated else self._checked).add(relation)

    def _held(self, definition: TableDefinition) -> frozenset[str]:
        """The types among its columns that call functions."""
        return frozenset(each.type.removesuffix("[]") for each in definition.columns) & self._types

    def _domain(self, command: Command) -> None:
        for made in command.creates:
            name = made.identity if made.kind is Kind.DOMAIN else made.identity.rpartition(" on ")[2]
            words = set(_WORD.findall(command.statement.text))
            over = {each for each in self._types if each != name and _bare(each) in words}
            if over or self.runs_in(command):
                self._types.add(name)
                self._stuck.update(over)

    def _mentioned(self, command: Command) -> bool:
        """Whether the text may name a function: a fast test without parsing."""
        text = command.statement.text
        words = _WORD.findall(text)
        return (
            not self._functions.isdisjoint(words)
            or not self._functions.isdisjoint(word.lower() for word in words)
            or b"OPERATOR(" in text
            or any(not _WORD.fullmatch(name) and name in text for name in self._functions)
        )

    def _runs(self, tree: Any) -> bool:
        if isinstance(tree, list):
            return any(map(self._runs, tree))
        if not isinstance(tree, dict):
            return False
        name = tree.get("FuncCall", {}).get("funcname", [])
        if name and name[-1]["String"].get("sval", "").encode() in self._functions:
            return True
        name = tree.get("A_Expr", {}).get("name", [])
        if len(name) > 1 and name[-1]["String"].get("sval") in self._operators:
            return True
        return any(map(self._runs, tree.values()))


def _bare(identity: str) -> bytes:
    """The last part of a name, as in a syntax tree."""
    name = parse(identity, "")
    return (identity if name is None else name.name).encode()


def _tree(command: Command) -> Any:
    try:
        # A name that this decoding changes is very unlikely to be one of these functions.
        return shape(command.statement.text.decode("utf-8", "replace"))
    except ParseError:
        return []


def _constraints(tree: Any) -> Iterator[Any]:
    if isinstance(tree, list):
        for each in tree:
            yield from _constraints(each)
    elif isinstance(tree, dict):
        if tree.get("contype") in ("CONSTR_CHECK", "CONSTR_GENERATED"):
            yield tree
        for each in tree.values():
            yield from _constraints(each)
