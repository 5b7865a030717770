"""Functions that count on a search path, which a dump empties.

An index, a view to fill, a constraint to check: they call functions, and one that names tables or other functions
without their schema fails. With the live database's path it works. From 17 on, the commands that maintain indexes and
views choose an empty path themselves; there the function gets a path of its own for the length of the command. It has
its old definition afterwards, so nothing differs from the restore point.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from lastgood.dump.calls import called_functions
from lastgood.dump.statements import Command, Kind
from lastgood.postgres.server import Connection
from lastgood.repairs.repair import USUAL_PATH, Repair, Rules

# undefined_table, undefined_function, undefined_object (a type), invalid_schema_name
STATES = frozenset({"42P01", "42883", "42704", "3F000"})
_MAINTENANCE = frozenset({Kind.INDEX, Kind.EXCLUSION, Kind.REFRESH})
KINDS = _MAINTENANCE | {Kind.CHECK, Kind.DOMAIN_CONSTRAINT}
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
                before=(set_path(path),),
            )


def in_function(error: psycopg.Error) -> bool:
    """Whether the server was inside a function's body: only then it tells of a place within the command."""
    return bool(error.diag.context or error.diag.internal_query)


def set_path(path: str) -> sql.Composed:
    """The command that sets a search path, as its text stands, for the rest of the transaction."""
    return sql.SQL("SELECT pg_catalog.set_config('search_path', {}, true)").format(sql.Literal(path))


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
                set_path(path),
                *(sql.SQL("ALTER FUNCTION {} SET search_path FROM CURRENT").format(each) for each in named),
            ),
            after=tuple(sql.SQL("ALTER FUNCTION {} RESET search_path").format(each) for each in named),
        )


def _function(schema: str, name: str, arguments: str) -> sql.Composed:
    # The arguments are the catalogue's own text.
    return sql.Identifier(schema, name) + sql.SQL("(") + sql.SQL(arguments) + sql.SQL(")")
