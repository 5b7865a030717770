"""One statement being ruled on, and the reasons and server errors that rulings share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lastgood.dump import names, system
from lastgood.dump.names import Relation
from lastgood.dump.rulings import tree
from lastgood.dump.statements import Command, Created, Detail, Kind, Verdict
from lastgood.dump.tokens import CopyStart, Statement

NAMES_DATABASE = "names a database; what belongs to the database itself is carried over from the live one"
NAMES_ROLE = "names a role of the whole server, which a rollback never changes"
NAMES_TABLESPACE = "names a tablespace of the whole server, which a rollback never changes"
NAMES_PARAMETER = "names a parameter of the whole server, which a rollback never changes"
NAMES_SUBSCRIPTION = "names a subscription, which in a second database would take over the live one's replication slot"
DROPS = "drops something, and a new database has nothing to drop"
RESETS = "resets the session, which ends anyway"

MISSING_PRIVILEGE = "42501"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
INVALID_VALUE = "22023"
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
    """One statement being ruled on: where it stands, and which schema unqualified names mean.

    A statement that creates or changes what PostgreSQL itself owns is never run: ``run`` refuses it where one of the
    names that ``relation`` and ``listed`` gave is in a system schema.
    """

    def __init__(self, statement: Statement | CopyStart, schema: str) -> None:
        self.statement = statement
        self.schema = schema
        self._system: Relation | str | None = None

    def run(
        self,
        kind: Kind,
        *relations: Relation,
        creates: Iterable[Created] = (),
        roles: Iterable[Any] = (),
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
            optional_sqlstates=frozenset(optional),
            detail=detail,
            dummy=dummy,
            reads=frozenset(reads),
            writes=frozenset(writes),
        )

    def skip(self, kind: Kind, reason: str, roles: Iterable[Any] = ()) -> Command:
        return Command(self.statement, kind, Verdict.SKIP, reason, roles=role_names(roles))

    def refuse(self, kind: Kind, reason: str) -> Command:
        return Command(self.statement, kind, Verdict.REFUSE, reason)

    def unknown(self, what: str = "") -> Command:
        return self.refuse(Kind.UNKNOWN, f"has {what or self.opening()}, which pg_dump never writes")

    def opening(self) -> str:
        """The statement's first words, as far as they are keywords: never a value."""
        words = re.match(rb"[A-Za-z]+(?:\s+[A-Za-z]+)?", self.statement.text)
        return f'"{b" ".join(words[0].split()).decode()}"' if words else "a statement"

    def of_system(self, kind: Kind, what: Relation | str) -> Command:
        return self.refuse(kind, f'changes "{names.shown(what)}", which belongs to PostgreSQL itself')

    def relation(self, node: Any) -> Relation:
        """The relation that a RangeVar names, which the statement creates or changes."""
        return self.named(names.of_range_var(node, self.schema))

    def listed(self, parts: Any) -> Relation:
        """The same for a list of String nodes."""
        return self.named(names.of_list(parts, self.schema))

    def named(self, what: Relation) -> Relation:
        """Takes note of what the statement creates or changes."""
        if system.is_system_schema(what.schema):
            self._system = self._system or what
        return what

    def read_by(self, query: Any) -> Iterator[Relation]:
        """The relations that a query names anywhere; names of its own WITH queries are among them."""
        for node in tree.within(query):
            if node.tag == "RangeVar":
                yield names.of_range_var(node, self.schema)

    def written_by(self, *statements: Any) -> list[Relation]:
        """The relations that ``statements``, to be run later on, insert into, update, delete from or merge into."""
        return [
            self.relation(node.relation)
            for statement in statements
            for node in tree.within(statement)
            if node.tag in _WRITES
        ]

    def schema_named(self, schema: str) -> None:
        """The same for a schema."""
        if system.is_system_schema(schema):
            self._system = self._system or schema


Handler = Callable[[Ruling, Any], Command]
"""What rules on one class of the syntax tree."""


def role_names(roles: Iterable[Any]) -> tuple[str, ...]:
    return tuple(r.rolename for r in roles if r is not None and r.roletype == "ROLESPEC_CSTRING")
