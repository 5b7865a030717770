"""Functions that count on a search path, which a dump empties.

An index, a view to fill, a constraint to check: they call functions, and one that names tables or other functions
without their schema fails. With the live database's path it works. From 17 on, the commands that maintain indexes and
views choose an empty path themselves; there the function gets a path of its own for the length of the command. It has
its old definition afterwards, so nothing differs from the restore point.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command, Kind
from lastgood.load.repairs.calls import called_functions
from lastgood.load.repairs.repair import USUAL_PATH, Repair, Rules
from lastgood.postgres.server import Connection

# undefined_table, undefined_function, undefined_object (a type), invalid_schema_name
STATES = frozenset({"42P01", "42883", "42704", "3F000"})
_MAINTENANCE = frozenset({Kind.INDEX, Kind.EXCLUSION, Kind.REFRESH})
# The server puts the body of a simple SQL function in the place of its call, and so looks into it early.
KINDS = _MAINTENANCE | {Kind.CHECK, Kind.DEFAULT, Kind.DOMAIN_CONSTRAINT, Kind.PARTITION, Kind.TABLE}
RESTRICTED = 170000

# The functions that fill a materialized view, through the views that it reads too.
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
# Tables with a stored column that such a function computes for each row.
_COMPUTED = """
SELECT DISTINCT n.nspname, c.relname
FROM pg_catalog.pg_attrdef a JOIN pg_catalog.pg_attribute t ON t.attrelid = a.adrelid AND t.attnum = a.adnum
JOIN pg_catalog.pg_class c ON c.oid = a.adrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = a.oid
  AND d.refclassid = 'pg_catalog.pg_proc'::regclass
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
WHERE t.attgenerated = 's' AND p.oid >= 16384 AND p.prolang NOT IN (12, 13)
"""
# Without a path of their own, and in a language that looks names up when it runs.
_WITHOUT_PATH = """
SELECT p.oid::regprocedure::text, n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE p.oid = ANY (%s) AND p.oid >= 16384 AND p.prokind = 'f' AND p.prolang NOT IN (12, 13)
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search\\_path=%%')
ORDER BY 1
"""


def repairs(connection: Connection, command: Command, error: psycopg.Error, rules: Rules) -> Iterator[Repair]:
    """The command under the live database's search path, then under the usual one."""
    if not in_function(error):
        return
    for path in dict.fromkeys((rules.search_path, USUAL_PATH)):
        if command.kind in _MAINTENANCE and connection.info.server_version >= RESTRICTED:
            yield from _given_to_functions(connection, command, path)
        else:
            yield Repair(
                command.statement.text,
                f"a function that it calls names things without their schema; done with the search path {path}",
                before=(add_path(path),),
            )


def computed(connection: Connection) -> frozenset[Relation]:
    """The tables whose rows can only be loaded under the search path that the application has: a function computes
    columns of theirs."""
    return frozenset(Relation(schema, name) for schema, name in connection.execute(_COMPUTED))


@contextmanager
def under(connection: Connection, path: str) -> Iterator[None]:
    """Adds to the session's search path for the length of a block."""
    row = connection.execute("SELECT pg_catalog.current_setting('search_path')").fetchone()
    connection.execute(add_path(path, local=False))
    yield  # after an error the load ends, and the session with it
    connection.execute("SELECT pg_catalog.set_config('search_path', %s, false)", row)


def in_function(error: psycopg.Error) -> bool:
    """Whether the server was inside a function's body: only then it tells of a place within the command."""
    return bool(error.diag.context or error.diag.internal_query)


def add_path(path: str, *, local: bool = True) -> sql.Composed:
    """The command that adds schemas to the end of the search path, for the rest of the transaction or of the session.
    Old dumps leave it to the path's first schema where a table is made."""
    return sql.SQL(
        "SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ',"
        " nullif(pg_catalog.current_setting('search_path'), ''), {}::text), {})"
    ).format(sql.Literal(path), sql.Literal(local))


def _given_to_functions(connection: Connection, command: Command, path: str) -> Iterator[Repair]:
    if command.kind is Kind.REFRESH:
        found = connection.execute(_OF_VIEW, [str(command.relations[0])]).fetchall()
    else:
        called = called_functions(command.statement.text)
        found = connection.execute(_BY_NAME, [[c.schema for c in called], [c.name for c in called]]).fetchall()
    functions = connection.execute(_WITHOUT_PATH, [[oid for (oid,) in found]]).fetchall()
    if functions:
        named = [_function(*parts) for _, *parts in functions]
        identities = ", ".join(identity for identity, *_ in functions)
        yield Repair(
            command.statement.text,
            f"a function that it calls names things without their schema; {identities} had the search path {path} "
            "for the length of this command, and has its own definition again",
            before=(
                add_path(path),
                *(sql.SQL("ALTER FUNCTION {} SET search_path FROM CURRENT").format(each) for each in named),
            ),
            after=tuple(sql.SQL("ALTER FUNCTION {} RESET search_path").format(each) for each in named),
        )


def _function(schema: str, name: str, arguments: str) -> sql.Composed:
    # The arguments are the catalogue's own text.
    return sql.Identifier(schema, name) + sql.SQL("(") + sql.SQL(arguments) + sql.SQL(")")
