"""Deferred work that would run code with the rights of the operator, and is left to another role.

The list of tasks is part of the database: it may have come with a restore point, and definitions may have changed since
it was written. The server builds an index with the rights of the table's owner, and validates a foreign key with those
of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

from psycopg import sql

from lastgood.dump.deferred_task import DeferredTask
from lastgood.dump.names import PG_CATALOG, Relation
from lastgood.dump.rulings.code import constructs
from lastgood.dump.rulings.tree import parse, within
from lastgood.dump.statements import Kind
from lastgood.postgres.roles.strength import strength
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection

# A name without a schema may lead to any table of that name.
_OWNERS = """
SELECT DISTINCT pg_catalog.pg_get_userbyid(c.relowner)::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = coalesce(%s, n.nspname) AND c.relname = %s AND c.relkind IN ('r', 'p', 'm') ORDER BY 1
"""
# The server's own types and casts have OIDs below this one.
_KEY = """
SELECT fn.nspname::text, f.relname::text,
       EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attnum > 0
               AND (a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
                    OR a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey))
               AND (a.atttypid >= 16384
                    OR EXISTS (SELECT FROM pg_catalog.pg_cast t WHERE t.oid >= 16384 AND t.castsource = a.atttypid)))
FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f' AND n.nspname = %s AND c.relname = %s AND k.conname = %s
"""
_OPERATOR_CLASS = """
SELECT FROM pg_catalog.pg_opclass c JOIN pg_catalog.pg_namespace n ON n.oid = c.opcnamespace
JOIN pg_catalog.pg_amproc a ON a.amprocfamily = c.opcfamily
JOIN pg_catalog.pg_proc p ON p.oid = a.amproc JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE n.nspname = %s AND c.opcname = %s AND l.lanname NOT IN ('internal', 'c')
"""

# Before 17, a superuser's session cannot turn these off.
_FIRING = """
SELECT evtname::text, evtenabled::text FROM pg_catalog.pg_event_trigger WHERE evtenabled IN ('A', 'R')
  AND pg_catalog.current_setting('server_version_num')::int4 < 170000
  AND pg_catalog.current_setting('is_superuser') = 'on'
"""
# A cast, domain or composite type in an expression names no function.
_CASTS = """
SELECT FROM pg_catalog.pg_cast c JOIN pg_catalog.pg_proc p ON p.oid = c.castfunc
JOIN pg_catalog.pg_language l ON l.oid = p.prolang WHERE c.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') LIMIT 1
"""
_TYPE = """
SELECT FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
WHERE n.nspname = %s AND t.typname = %s AND t.typtype NOT IN ('b', 'e')
"""


def why_not(connection: Connection, task: DeferredTask) -> str:
    """The reason why this session must not do a task; empty if it may. Raises psycopg.Error."""
    if not strength(connection):
        return ""
    if connection.execute(_FIRING).fetchone() is not None:
        return (
            f'event triggers enabled as ALWAYS or REPLICA would run with the rights of "{connection.info.user}"; to do '
            f"it, run: {task.statements[0]}"
        )
    if task.kind is Kind.FOREIGN_KEY:
        tables = (task.table.schema, task.table.name)
        row = connection.execute(_KEY, [*tables, task.name]).fetchone()
        if row is None or not (row[2] or not_to_query(connection) & {tables, (row[0], row[1])}):
            return ""
        return _left(f'"{connection.info.user}"', task)
    (node,) = parse(task.statements[0])
    owners = connection.execute(_OWNERS, [node.relation.schemaname, node.relation.relname]).fetchall()
    strong = next((owner for (owner,) in owners if strength(connection, owner)), None)
    if strong is None or not _calls_functions(connection, node, task.settings):
        return ""
    return _left(f'"{strong}", the owner of {task.table}', task)


@contextmanager
def without_event_triggers(connection: Connection) -> Iterator[None]:
    """Disable those event triggers for a block in a transaction: no other session notices, and none fires on this."""
    firing = connection.execute(_FIRING).fetchall()
    for name, _ in firing:
        connection.execute(sql.SQL("ALTER EVENT TRIGGER {} DISABLE").format(sql.Identifier(name)))
    yield
    for name, enabled in firing:
        how = sql.SQL("ALWAYS" if enabled == "A" else "REPLICA")
        connection.execute(sql.SQL("ALTER EVENT TRIGGER {} ENABLE {}").format(sql.Identifier(name), how))


def analyzes_code(connection: Connection, table: Relation) -> bool:
    """Whether ANALYZE would run functions with rights of an owner that are worth something. Raises psycopg.Error."""
    owners = connection.execute(_OWNERS, [table.schema, table.name]).fetchall()
    return any(strength(connection, owner) for (owner,) in owners) and (
        (table.schema, table.name) in not_to_query(connection)
    )


def _left(whose: str, task: DeferredTask) -> str:
    return f"functions would run with the rights of {whose}; to do it, run: {task.statements[0]}"


def _calls_functions(connection: Connection, node: Any, settings: Sequence[str]) -> bool:
    """Whether a CREATE INDEX may call functions other than the server's own."""
    # With another search path, the server's names may lead to others.
    other_path = any("search_path" in each and each not in _EMPTY_PATH for each in settings)
    expressions = [each.expr for each in node.indexParams if each.expr is not None]
    expressions += [node.whereClause] if node.whereClause is not None else []
    if any(constructs(node)) or (expressions and (other_path or _exists(connection, _CASTS))):
        return True
    types = [fields["typeName"]["names"] for tag, fields in within(expressions) if tag == "TypeCast"]
    of_types = [[part["String"].get("sval", "") for part in each] for each in types]
    classes = [[part.sval for part in each.opclass] for each in node.indexParams if each.opclass]
    return (
        any(len(each) < len(("schema", "name")) and other_path for each in classes)
        or any(_exists(connection, _OPERATOR_CLASS, each) for each in _foreign(classes))
        or any(_exists(connection, _TYPE, each) for each in _foreign(of_types))
    )


_EMPTY_PATH = ("SELECT pg_catalog.set_config('search_path', '', false)", "SET search_path = ''")


def _foreign(found: Iterable[list[str]]) -> Iterator[list[str]]:
    """The names with a schema other than the server's."""
    return (each for each in found if len(each) > 1 and each[0] != PG_CATALOG)


def _exists(connection: Connection, query: LiteralString, names: Sequence[str] = ()) -> bool:
    return connection.execute(query, names[-2:]).fetchone() is not None
