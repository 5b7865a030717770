"""Functions that rely on a search path, which a dump sets to empty.

Indexes, refreshed views and validated constraints call functions, and a function with unqualified names fails. With the
live database's path it works. Since 17, commands that maintain indexes and views set a safe path themselves; there the
function gets a path of its own for the duration of the command. Its definition is restored afterwards, so nothing
differs from the restore point.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from pglast.parser import ParseError, parse_sql_json
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command, Kind
from lastgood.load.repairs.repair import USUAL_PATH, Repair, Rules
from lastgood.postgres.server import Connection

# undefined_table, undefined_function, undefined_object (a type), invalid_schema_name
STATES = frozenset({"42P01", "42883", "42704", "3F000"})
_MAINTENANCE = frozenset({Kind.INDEX, Kind.EXCLUSION, Kind.REFRESH})
# The server inlines simple SQL functions, and so resolves their names early.
KINDS = _MAINTENANCE | {Kind.CHECK, Kind.DEFAULT, Kind.DOMAIN_CONSTRAINT, Kind.PARTITION, Kind.TABLE}
RESTRICTED = 170000

# The functions of a materialized view's query, including those of the views that it reads.
_OF_VIEW = """
WITH RECURSIVE reads (oid) AS (
  SELECT to_regclass(%s)::oid
  UNION
  SELECT d.refobjid FROM reads
  JOIN pg_catalog.pg_rewrite w ON w.ev_class = reads.oid
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass)
SELECT DISTINCT d.refobjid FROM reads
JOIN pg_catalog.pg_rewrite w ON w.ev_class = reads.oid
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
  AND d.refclassid = 'pg_catalog.pg_proc'::regclass
"""
_BY_NAME = """
SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN unnest(%s::text[], %s::text[]) w (schema_name, name) ON w.name = p.proname AND w.schema_name IN ('', n.nspname)
"""
# Tables with a stored generated column that calls such a function.
_COMPUTED = """
SELECT DISTINCT n.nspname, c.relname
FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_attribute t ON t.attrelid = a.adrelid AND t.attnum = a.adnum
JOIN pg_catalog.pg_class c ON c.oid = a.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = a.oid
  AND d.refclassid = 'pg_catalog.pg_proc'::regclass
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
WHERE t.attgenerated = 's' AND p.oid >= 16384 AND p.prolang NOT IN (12, 13)
"""
# Functions without a path of their own, in a language that resolves names at run time.
_WITHOUT_PATH = """
SELECT p.oid::regprocedure::text, n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = ANY (%s) AND p.oid >= 16384 AND p.prokind = 'f' AND p.prolang NOT IN (12, 13)
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search\\_path=%%')
  AND (%s::text[] IS NULL OR n.nspname = ANY (%s))
ORDER BY 1
"""


def repairs(connection: Connection, command: Command, error: psycopg.Error, rules: Rules) -> Iterator[Repair]:
    """Run the command under the live database's search path, then under the default one."""
    if not in_function(error):
        return
    for path in dict.fromkeys((rules.search_path, USUAL_PATH)):
        if command.kind in _MAINTENANCE and connection.info.server_version >= RESTRICTED:
            yield from _given_to_functions(connection, command, path, rules)
        else:
            yield Repair(
                command.statement.text,
                f"a function that it calls uses unqualified names; done with the search path {path}",
                before=(add_path(path),),
            )


def computed(connection: Connection) -> frozenset[Relation]:
    """The tables whose rows must be loaded under the application's search path, because a function computes columns."""
    return frozenset(Relation(schema, name) for schema, name in connection.execute(_COMPUTED))


@contextmanager
def under(connection: Connection, path: str) -> Iterator[None]:
    """Extend the session's search path for the duration of a block."""
    row = connection.execute("SELECT pg_catalog.current_setting('search_path')").fetchone()
    connection.execute(add_path(path, local=False))
    yield  # an error ends the load and the session
    connection.execute("SELECT pg_catalog.set_config('search_path', %s, false)", row)


def in_function(error: psycopg.Error) -> bool:
    """Whether the error occurred inside a function body: only then the server reports a context."""
    return bool(error.diag.context or error.diag.internal_query)


def add_path(path: str, *, local: bool = True) -> sql.Composed:
    """The command that appends schemas to the search path, for the rest of the transaction or of the session. In old
    dumps the path's first schema determines where a table is created."""
    return sql.SQL(
        "SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ',"
        " nullif(pg_catalog.current_setting('search_path'), ''), {}::text), {})"
    ).format(sql.Literal(path), sql.Literal(local))


def _given_to_functions(connection: Connection, command: Command, path: str, rules: Rules) -> Iterator[Repair]:
    if command.kind is Kind.REFRESH:
        found = connection.execute(_OF_VIEW, [str(command.relations[0])]).fetchall()
    else:
        called = called_functions(command.statement.text)
        found = connection.execute(_BY_NAME, [[c.schema for c in called], [c.name for c in called]]).fetchall()
    within = None if rules.within is None else list(rules.within)
    functions = connection.execute(_WITHOUT_PATH, [[oid for (oid,) in found], within, within]).fetchall()
    if functions:
        named = [_function(*parts) for _, *parts in functions]
        identities = ", ".join(identity for identity, *_ in functions)
        yield Repair(
            command.statement.text,
            f"a function that it calls uses unqualified names; {identities} had the search path {path} "
            "for the duration of this command only",
            before=(
                add_path(path),
                *(sql.SQL("ALTER FUNCTION {} SET search_path FROM CURRENT").format(each) for each in named),
            ),
            after=tuple(sql.SQL("ALTER FUNCTION {} RESET search_path").format(each) for each in named),
        )


def _function(schema: str, name: str, arguments: str) -> sql.Composed:
    # The arguments are the catalogue's own text.
    return sql.Identifier(schema, name) + sql.SQL("(") + sql.SQL(arguments) + sql.SQL(")")


def called_functions(text: bytes) -> tuple[Relation, ...]:
    """The functions that ``text`` (UTF-8) calls, each once, in its order; ``schema`` is empty for an unqualified name.

    Functions of operators, casts and types of columns are not included. Text that is not SQL calls none.
    """
    try:
        tree = json.loads(parse_sql_json(text.decode()))
    except (ParseError, RecursionError, UnicodeDecodeError):
        return ()
    return tuple(dict.fromkeys(_calls(tree)))


def _calls(tree: Any) -> Iterator[Relation]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting.extend(reversed(node))
        elif isinstance(node, dict):
            if "FuncCall" in node:
                parts = [part["String"]["sval"] for part in node["FuncCall"].get("funcname", ())]
                if parts:
                    yield Relation(parts[-2] if len(parts) > 1 else "", parts[-1])
            waiting.extend(reversed(node.values()))
