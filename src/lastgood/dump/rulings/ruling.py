"""One statement being ruled on, and the reasons and server errors that rulings share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from lastgood.dump import names
from lastgood.dump.names import Relation
from lastgood.dump.search_path import SearchPath
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

GLOBAL = {
    "OBJECT_DATABASE": (Kind.DATABASE, NAMES_DATABASE),
    "OBJECT_ROLE": (Kind.ROLE, NAMES_ROLE),
    "OBJECT_TABLESPACE": (Kind.TABLESPACE, NAMES_TABLESPACE),
    "OBJECT_PARAMETER_ACL": (Kind.PARAMETER, NAMES_PARAMETER),
    "OBJECT_SUBSCRIPTION": (Kind.SUBSCRIPTION, NAMES_SUBSCRIPTION),
}


class Ruling:
    """One statement being ruled on: where it stands, and which schema unqualified names mean there."""

    def __init__(self, statement: Statement | CopyStart, path: SearchPath, encoding: str = "utf-8") -> None:
        self.statement = statement
        self.path = path
        self.encoding = encoding

    @property
    def schema(self) -> str:
        """The schema in which something without one is made."""
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
    ) -> Command:
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
        """No pg_dump writes it, and it is harmless. ``text`` is what is sent instead of its own; nothing is unless it
        ``runs``."""
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

    def unknown(self, what: str = "") -> Command:
        return self.refuse(Kind.UNKNOWN, f"has {what or self.opening()}, which pg_dump never writes")

    def opening(self, most: int = 2) -> str:
        """The statement's first words, as far as they are keywords: never a value."""
        words = re.match(rb"[A-Za-z]+(?:\s+[A-Za-z]+)?", self.statement.text)
        return f'"{b" ".join(words[0].split()[:most]).decode()}"' if words else "a statement"

    def made(self, node: Any) -> Relation:
        """The relation that a statement makes, from a RangeVar."""
        return names.of_range_var(node, self.schema)

    def relation(self, node: Any) -> Relation:
        """An existing relation, from a RangeVar."""
        return names.of_range_var(node, self.path.schema_of(node.relname))

    def named(self, text: str) -> Relation | None:
        """An existing relation, from its name as a regclass is written; None when it is none."""
        found = names.parse(text, "")
        if found is None or found.schema:
            return found
        return Relation(self.path.schema_of(found.name), found.name)

    def listed(self, parts: Any) -> Relation:
        return names.of_list(parts, self.schema)


Handler = Callable[[Ruling, Any], Command]
"""What rules on one class of the syntax tree."""


def role_names(roles: Iterable[Any]) -> tuple[str, ...]:
    return tuple(r.rolename for r in roles if r is not None and r.roletype == "ROLESPEC_CSTRING")
