"""Work that is deferred, as SQL: written from a dump's commands, and recognised when it is read from a server."""

from __future__ import annotations

from dataclasses import dataclass

from pglast.parser import ParseError, scan

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.names import Relation, quoted
from lastgood.dump.rulings import rule
from lastgood.dump.rulings.code import of_server
from lastgood.dump.rulings.tree import Node, parse, shape, within
from lastgood.dump.statements import Kind, Setting

# Settings that change the meaning of CREATE INDEX.
MEANINGFUL = frozenset({"search_path", "default_tablespace", "standard_conforming_strings", "xmloption"})
# Commands that may follow a deferred index: they affect only the index itself.
FOLLOWING = frozenset({"AT_ClusterOn", "AT_SetStatistics"})


@dataclass(frozen=True, slots=True)
class DeferredTask:
    """Work for the time after the reopening. ``kind`` is INDEX (to be built) or FOREIGN_KEY (to be validated);
    ``table`` is its table, ``name`` its own name, without the schema.

    ``settings`` are statements that set up the session as the dump does; ``statements`` do the work, in this order,
    each by itself and outside a transaction.
    """

    kind: Kind
    table: Relation
    name: str
    settings: tuple[str, ...]
    statements: tuple[str, ...]

    def __str__(self) -> str:
        if self.kind is Kind.INDEX:
            return f"index {Relation(self.table.schema, self.name)}"
        return f"foreign key {quoted(self.name)} on {self.table}"

    @property
    def is_allowed(self) -> bool:
        """Whether it has only statements that ``Deferrable.divide`` writes. The list of tasks is part of the database,
        and so of dumps: its text is untrusted, too."""
        if not all(map(_is_setting, self.settings)) or not self.statements:
            return False
        if any("\\" in text for text in self.statements) and not all(map(_is_conforming, self.settings)):
            return False
        first, *others = (self._parsed(text) for text in self.statements)
        if self.kind is Kind.FOREIGN_KEY:
            return first is not None and not others and self._validates(first)
        return first is not None and self._builds(first) and all(each is not None and _follows(each) for each in others)

    def _parsed(self, text: str) -> Node | None:
        """A statement on the task's table or index; None for any other text."""
        try:
            nodes = parse(text)
        except (ParseError, RecursionError):
            return None
        if len(nodes) != 1:
            return None
        (node,) = nodes
        relation = node.relation
        named = relation is None or (
            relation.relname in (self.table.name, self.name) and relation.schemaname in (None, self.table.schema)
        )
        return node if named else None

    def _builds(self, node: Node) -> bool:
        return bool(node.tag == "IndexStmt" and node.concurrent and not node.unique and node.idxname == self.name) and (
            not calls_other_code(node)
        )

    def _validates(self, node: Node) -> bool:
        """Whether it validates the key: the validation of a check would run its code."""
        if node.tag != "AlterTableStmt" or len(node.cmds) != 1:
            return False
        (change,) = node.cmds
        return bool(change.subtype == "AT_ValidateConstraint" and change.name == self.name)


def not_valid(text: str) -> str | None:
    """An ADD FOREIGN KEY with NOT VALID appended; None if the result would have another meaning."""
    words = [token for token in scan(text) if "COMMENT" not in token.name]
    end = words[-1].end + 1
    rewritten = f"{text[:end]} NOT VALID{text[end:]}"
    wanted = shape(text)
    try:
        constraint = wanted[0]["AlterTableStmt"]["cmds"][0]["AlterTableCmd"]["def"]["Constraint"]
        # A NOT ENFORCED key (18) is never checked.
        if constraint.get("skip_validation") or not constraint.get("is_enforced") or not constraint.get("conname"):
            return None
        constraint["skip_validation"] = True
        constraint.pop("initially_valid", None)
        return rewritten if shape(rewritten) == wanted else None
    except (KeyError, IndexError, ParseError):
        return None


def concurrently(text: str) -> str | None:
    """A CREATE INDEX with CONCURRENTLY after the word INDEX; None if the result would have another meaning."""
    words = (token for token in scan(text) if token.name == "INDEX")
    end = next(words).end + 1
    rewritten = f"{text[:end]} CONCURRENTLY{text[end:]}"
    wanted = shape(text)
    wanted[0]["IndexStmt"]["concurrent"] = True
    try:
        return rewritten if shape(rewritten) == wanted else None
    except ParseError:
        return None


def _is_setting(text: str) -> bool:
    command = rule(Statement(text.encode(), 0, 1))
    return (
        command.kind is Kind.SETTING
        and isinstance(command.detail, Setting)
        and command.detail.name in MEANINGFUL
        and command.statement.text == text.encode()  # no text that another setting gives another meaning
    )


def _is_conforming(text: str) -> bool:
    detail = rule(Statement(text.encode(), 0, 1)).detail
    assert isinstance(detail, Setting)
    return detail.name != "standard_conforming_strings" or detail.value == "on"


def _follows(node: Node) -> bool:
    if node.tag == "CommentStmt":
        return bool(node.objtype == "OBJECT_INDEX")
    return node.tag == "AlterTableStmt" and all(each.subtype in FOLLOWING for each in node.cmds)


def calls_other_code(node: Node) -> bool:
    """Whether expressions call functions, or use operators, other than PostgreSQL's own."""
    return any(
        (tag == "FuncCall" and not of_server(fields.get("funcname")))
        or (tag == "A_Expr" and len(fields.get("name", ())) > 1 and not of_server(fields["name"]))
        for tag, fields in within(node)
    )
