"""The ruling on one statement, and the reasons and server errors that rulings share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from lastgood.dump import names
from lastgood.dump.lexer.tokens import CopyStart, Statement
from lastgood.dump.names import Relation
from lastgood.dump.rulings.tree import within
from lastgood.dump.search_path import SearchPath
from lastgood.dump.statements import Command, Created, Detail, Kind, Verdict

NAMES_DATABASE = "names a database; properties of the database itself are carried over from the live one"
NAMES_ROLE = "names a role of the whole server, which a rollback never changes"
NAMES_TABLESPACE = "names a tablespace of the whole server, which a rollback never changes"
NAMES_PARAMETER = "names a parameter of the whole server, which a rollback never changes"
NAMES_SUBSCRIPTION = "names a subscription, which in a second database would take over the live one's replication slot"
MARKS_RUN = "is the mark of a run of lastgood in the database that was dumped"
# How the JSON of marks begins, after its brace. Marks in a restore point would be believed in the restored database.
MARK = '"tool":"lastgood"'
DROPS = "drops an object, but a new database has nothing to drop"
RESETS = "resets the session, which ends anyway"

MISSING_PRIVILEGE = "42501"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
INVALID_VALUE = "22023"
DUPLICATE_OBJECT = "42710"
DUPLICATE_SCHEMA = "42P06"

_WRITES = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})

GLOBAL = {
    "OBJECT_DATABASE": (Kind.DATABASE, NAMES_DATABASE),
    "OBJECT_ROLE": (Kind.ROLE, NAMES_ROLE),
    "OBJECT_TABLESPACE": (Kind.TABLESPACE, NAMES_TABLESPACE),
    "OBJECT_PARAMETER_ACL": (Kind.PARAMETER, NAMES_PARAMETER),
    "OBJECT_SUBSCRIPTION": (Kind.SUBSCRIPTION, NAMES_SUBSCRIPTION),
}


class Ruling:
    """The ruling on one statement, with its position and the search path there.

    A statement that creates or changes PostgreSQL's own objects is refused regardless of its handler: each name that
    the handler resolves here is checked.
    """

    def __init__(self, statement: Statement | CopyStart, path: SearchPath, encoding: str = "utf-8") -> None:
        self.statement = statement
        self.path = path
        self.encoding = encoding
        self._system: Relation | str | None = None

    @property
    def schema(self) -> str:
        """The schema for new unqualified objects."""
        return self.path.first

    def run(
        self,
        kind: Kind,
        *relations: Relation,
        creates: Iterable[Created] = (),
        roles: Iterable[Any] = (),
        revoked_from: Iterable[Any] = (),
        optional: Iterable[str] = (),
        detail: Detail | None = None,
        dummy: bool = False,
        reads: Iterable[Relation] = (),
        writes: Iterable[Relation] = (),
    ) -> Command:
        if self._system is not None:
            return self.of_system(kind, self._system)
        return Command(
            self.statement,
            kind,
            relations=relations,
            creates=tuple(creates),
            roles=role_names(roles),
            revoked_from=role_names(revoked_from),
            optional_sqlstates=frozenset(optional),
            detail=detail,
            dummy=dummy,
            reads=frozenset(reads),
            writes=frozenset(writes),
        )

    def skip(self, kind: Kind, reason: str, roles: Iterable[Any] = ()) -> Command:
        return Command(self.statement, kind, Verdict.SKIP, reason, roles=role_names(roles))

    def foreign(
        self,
        kind: Kind,
        reason: str = "",
        *relations: Relation,
        runs: bool = True,
        text: bytes = b"",
        optional: Iterable[str] = (),
        detail: Detail | None = None,
        creates: Iterable[Created] = (),
    ) -> Command:
        """The verdict on a harmless command that pg_dump never writes. ``text`` replaces its own text; it is only sent
        if it ``runs``."""
        if self._system is not None and runs:
            return self.of_system(kind, self._system)
        return Command(
            replace(self.statement, text=text) if text else self.statement,
            kind if runs else Kind.QUERY,
            Verdict.FOREIGN,
            reason or f"has {self.opening()}, which pg_dump never writes",
            relations=relations,
            creates=tuple(creates),
            optional_sqlstates=frozenset(optional),
            detail=detail,
        )

    def refuse(self, kind: Kind, reason: str) -> Command:
        return Command(self.statement, kind, Verdict.REFUSE, reason)

    def of_system(self, kind: Kind, what: Relation | str) -> Command:
        return self.refuse(kind, f'changes "{names.shown(what)}", which belongs to PostgreSQL itself')

    def unknown(self, what: str = "") -> Command:
        return self.refuse(Kind.UNKNOWN, f"has {what or self.opening()}, which pg_dump never writes")

    def opening(self, most: int = 2) -> str:
        """The statement's first words, which are keywords and never values."""
        words = re.match(rb"[A-Za-z]+(?:\s+[A-Za-z]+)?", self.statement.text)
        return f'"{b" ".join(words[0].split()[:most]).decode()}"' if words else "a statement"

    def created(self, node: Any) -> Relation:
        """The relation that a statement creates, from a RangeVar."""
        return self.record(names.of_range_var(node, self.schema))

    def relation(self, node: Any) -> Relation:
        """An existing relation that a statement changes, from a RangeVar."""
        return self.record(names.of_range_var(node, self.path.schema_of(node.relname)))

    def relation_named(self, text: str) -> Relation | None:
        """The same from a name in regclass notation; None for other text."""
        relation = names.parse(text, "")
        if relation is None:
            return None
        return self.record(relation if relation.schema else Relation(self.path.schema_of(relation.name), relation.name))

    def object_named(self, parts: Any) -> Relation:
        """The object that a statement creates or changes, from a list of String nodes."""
        return self.record(names.of_list(parts, self.schema))

    def record(self, what: Relation) -> Relation:
        """Record an object that the statement creates or changes."""
        if names.is_system_schema(what.schema):
            self._system = self._system or what
        return what

    def record_schema(self, schema: str) -> None:
        """The same for a schema."""
        if names.is_system_schema(schema):
            self._system = self._system or schema

    def read_by(self, queries: Any) -> Iterator[Relation]:
        """The relations that queries name anywhere, including names of their own WITH queries."""
        return (self._existing(fields) for _, fields in within(queries) if "relname" in fields)

    def written_by(self, statements: Any) -> list[Relation]:
        """The relations that statements, to be run later, insert into, update, delete from or merge into."""
        return [self.record(self._existing(fields["relation"])) for tag, fields in within(statements) if tag in _WRITES]

    def _existing(self, fields: dict[str, Any]) -> Relation:
        name: str = fields["relname"]
        return Relation(fields.get("schemaname") or self.path.schema_of(name), name)


Handler = Callable[[Ruling, Any], Command]
"""A function that rules on a statement of one class of the syntax tree."""


def role_names(roles: Iterable[Any]) -> tuple[str, ...]:
    return tuple(r.rolename for r in roles if r is not None and r.roletype == "ROLESPEC_CSTRING")
