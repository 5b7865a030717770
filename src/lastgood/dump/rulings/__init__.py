"""The allow-list: for each kind of statement, its objects and whether a restore may run it.

It has a handler for each class of PostgreSQL's own syntax tree; a class without a handler is refused.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from pglast.parser import ParseError, scan

from lastgood.dump.lexer.tokens import CopyStart, MetaCommand, Statement
from lastgood.dump.names import Relation
from lastgood.dump.rulings import attributes, foreign, objects, rows, session, tables
from lastgood.dump.rulings.code import constructs
from lastgood.dump.rulings.ruling import (
    DROPS,
    NAMES_DATABASE,
    NAMES_ROLE,
    NAMES_SUBSCRIPTION,
    NAMES_TABLESPACE,
    Handler,
    Ruling,
    role_names,
)
from lastgood.dump.rulings.tree import parse
from lastgood.dump.search_path import SearchPath
from lastgood.dump.statements import Command, Kind, LargeObjectCall, Verdict

NO_PATH = SearchPath()
_LOWRITE = re.compile(rb"SELECT pg_catalog\.lowrite\(0, '\\x([0-9a-f]*)'\)\Z")
_UNLINK = re.compile(
    rb"SELECT (?:pg_catalog\.lo_unlink\('\d+'\)"
    rb"|pg_catalog\.lo_unlink\(oid\) FROM pg_catalog\.pg_largeobject_metadata WHERE oid = '\d+'"
    rb"|CASE WHEN EXISTS\(SELECT 1 FROM pg_catalog\.pg_largeobject WHERE loid = '\d+'\)"
    rb" THEN pg_catalog\.lo_unlink\('\d+'\) END)\Z"
)


class _RecordingRuling(Ruling):
    """A ruling that records the schemas of the objects that the statement creates or changes, the main one first."""

    def __init__(self, statement: Statement | CopyStart, path: SearchPath, encoding: str) -> None:
        super().__init__(statement, path, encoding)
        self.schemas: list[str] = []

    def record(self, what: Relation) -> Relation:
        self.schemas.append(what.schema)
        return super().record(what)

    def record_schema(self, schema: str) -> None:
        self.schemas.append(schema)
        super().record_schema(schema)


def schema_of(command: Command, *, path: SearchPath = NO_PATH, encoding: str = "utf-8") -> str | None:
    """The schema of the object that a command creates or changes, or the schema that it names; None for an object
    without a schema, such as an extension.

    The schema of a trigger, a policy, an index or a constraint is that of its table.
    """
    if command.relations:
        return command.relations[0].schema
    statement = command.statement
    if isinstance(statement, MetaCommand):
        return None
    statements = parse(statement.text.decode(encoding))
    handler = _HANDLERS.get(statements[0].tag) if len(statements) == 1 else None
    if handler is None:
        return None
    ruling = _RecordingRuling(statement, path, encoding)
    handler(ruling, statements[0])
    return ruling.schemas[0] if ruling.schemas else None


_ESCAPED_QUOTE = re.compile(r"(?<!\\)\\(?:\\\\)*'")


def rule(
    statement: Statement | CopyStart,
    *,
    path: SearchPath = NO_PATH,
    encoding: str = "utf-8",
    escapes_in_strings: bool = False,
) -> Command:
    """Classify ``statement``, and decide whether a restore may run it.

    ``path`` resolves unqualified names, ``encoding`` is the Python codec of its bytes, ``escapes_in_strings``:
    ``standard_conforming_strings`` is off. Raises UnicodeDecodeError.
    """
    ruling = Ruling(statement, path, encoding)
    written = _LOWRITE.match(statement.text)
    if written and len(written[1]) % 2 == 0:
        return ruling.run(
            Kind.LARGE_OBJECT, detail=LargeObjectCall("lowrite", None, bytes.fromhex(written[1].decode()))
        )
    if _UNLINK.match(statement.text):
        return ruling.skip(Kind.DROP, DROPS)
    text = statement.text.decode(encoding)
    if escapes_in_strings and "\\" in text and _hides_quote(text):
        return ruling.refuse(
            Kind.UNKNOWN, "has a string in which a backslash hides a quote, which pg_dump never writes"
        )
    try:
        statements = parse(text)
    except ParseError as error:
        found_at = error.args[1] if len(error.args) > 1 and isinstance(error.args[1], int) else 0
        return replace(ruling.refuse(Kind.UNKNOWN, "has text that is not SQL"), not_sql_at=max(found_at, 0))
    except RecursionError:
        return ruling.refuse(Kind.UNKNOWN, "has a command that is nested too deeply")
    if len(statements) != 1:
        return ruling.refuse(Kind.UNKNOWN, "has text that is not one statement")
    (node,) = statements
    handler = _HANDLERS.get(node.tag)
    if handler is None:
        return ruling.unknown()
    command = handler(ruling, node)
    code = tuple(constructs(node)) if command.verdict is Verdict.RUN else ()
    return replace(command, code=code) if code else command


def _hides_quote(text: str) -> bool:
    """Whether strings would end elsewhere if a backslash escapes: then the parser and the server would disagree."""
    try:
        strings = [text[token.start : token.end + 1] for token in scan(text) if token.name == "SCONST"]
    except ParseError:
        return True
    return any(string.startswith("'") and _ESCAPED_QUOTE.search(string) is not None for string in strings)


def _skipped(kind: Kind, reason: str) -> Handler:
    return lambda r, node: r.skip(kind, reason)


def _role(r: Ruling, node: Any) -> Command:
    """A command for roles: left out, but its names of roles are recorded."""
    if node.tag == "CreateRoleStmt":
        return Command(r.statement, Kind.ROLE, Verdict.SKIP, NAMES_ROLE, roles=(node.role,))
    if node.tag == "GrantRoleStmt":
        granted = tuple(each.priv_name for each in node.granted_roles)
        return Command(
            r.statement, Kind.ROLE, Verdict.SKIP, NAMES_ROLE, roles=(*granted, *role_names(node.grantee_roles))
        )
    return r.skip(Kind.ROLE, NAMES_ROLE, [node.role])


_HANDLERS: dict[str, Handler] = {
    **foreign.HANDLERS,
    **session.HANDLERS,
    **rows.HANDLERS,
    **tables.HANDLERS,
    **objects.HANDLERS,
    **attributes.HANDLERS,
    # Objects of the server or of the database itself, and objects that a second database must not have.
    "AlterDatabaseRefreshCollStmt": _skipped(Kind.DATABASE, NAMES_DATABASE),
    "AlterDatabaseSetStmt": _skipped(Kind.DATABASE, NAMES_DATABASE),
    "AlterDatabaseStmt": _skipped(Kind.DATABASE, NAMES_DATABASE),
    "AlterRoleSetStmt": _role,
    "AlterRoleStmt": _role,
    "AlterSubscriptionStmt": _skipped(Kind.SUBSCRIPTION, NAMES_SUBSCRIPTION),
    "AlterTableSpaceOptionsStmt": _skipped(Kind.TABLESPACE, NAMES_TABLESPACE),
    "CreateRoleStmt": _role,
    "CreateSubscriptionStmt": _skipped(Kind.SUBSCRIPTION, NAMES_SUBSCRIPTION),
    "CreateTableSpaceStmt": _skipped(Kind.TABLESPACE, NAMES_TABLESPACE),
    "CreatedbStmt": _skipped(Kind.DATABASE, NAMES_DATABASE),
    "DropRoleStmt": _skipped(Kind.ROLE, NAMES_ROLE),
    "DropSubscriptionStmt": _skipped(Kind.SUBSCRIPTION, NAMES_SUBSCRIPTION),
    "DropTableSpaceStmt": _skipped(Kind.TABLESPACE, NAMES_TABLESPACE),
    "DropdbStmt": _skipped(Kind.DATABASE, NAMES_DATABASE),
    "GrantRoleStmt": _role,
}
