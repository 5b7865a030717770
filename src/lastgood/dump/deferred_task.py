"""Work that is deferred, as SQL: written from a dump's commands, and recognised when it is read from a server."""

from __future__ import annotations

from dataclasses import dataclass

from pglast.parser import ParseError, scan

from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.names import Relation, quoted
from lastgood.dump.rulings import rule
from lastgood.dump.rulings.tree import only, shape
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
        if not self.statements or not all(map(_is_setting, self.settings)):
            return False
        if any("\\" in text for text in self.statements) and not all(map(_is_conforming, self.settings)):
            return False
        first, *following = self.statements
        if self.kind is Kind.FOREIGN_KEY:
            return not following and self._is_own(first)
        return self._is_own(first) and all(map(_follows, following))

    def _is_own(self, text: str) -> bool:
        """Whether a statement is the work on this object: the state of no other one is looked up."""
        node = only(text)
        if node is None or node.tag not in ("IndexStmt", "AlterTableStmt"):
            return False
        if node.relation.relname != self.table.name or node.relation.schemaname not in (None, self.table.schema):
            return False
        if self.kind is Kind.INDEX:
            return bool(node.tag == "IndexStmt" and node.concurrent and not node.unique and node.idxname == self.name)
        subtypes = [(each.subtype, each.name) for each in node.cmds] if node.tag == "AlterTableStmt" else []
        return bool(node.relation.schemaname) and subtypes == [("AT_ValidateConstraint", self.name)]


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
    """Whether a setting leaves backslashes in strings alone."""
    detail = rule(Statement(text.encode(), 0, 1)).detail
    assert isinstance(detail, Setting)
    return detail.name != "standard_conforming_strings" or detail.value == "on"


def _follows(text: str) -> bool:
    """Whether a statement affects an index that was built, and nothing else."""
    node = only(text)
    if node is None:
        return False
    if node.tag == "CommentStmt":
        return bool(node.objtype == "OBJECT_INDEX")
    return node.tag == "AlterTableStmt" and all(each.subtype in FOLLOWING for each in node.cmds)
