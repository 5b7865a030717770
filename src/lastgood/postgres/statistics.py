"""The planner's statistics, also of a database in which some table can't be analyzed."""

from __future__ import annotations

import psycopg
from psycopg import sql

from lastgood.postgres.server import Connection

# What ANALYZE meets in a function of the user's, which it calls with an empty search path from 17 on.
_LOOKED_UP_IN_VAIN = frozenset({"42P01", "42883", "42704", "3F000"})


def analyze(connection: Connection) -> list[str]:
    """Analyzes everything; in autocommit mode. Returns a sentence for each table that the server could not analyze,
    since a function in an index of it counts on a search path. Raises psycopg.Error for anything else.
    """
    try:
        connection.execute("ANALYZE")
    except psycopg.Error as error:
        if error.sqlstate not in _LOOKED_UP_IN_VAIN:
            raise
        return _one_by_one(connection)
    return []


def _one_by_one(connection: Connection) -> list[str]:
    told = []
    tables = connection.execute(
        """
        SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        ORDER BY 1, 2
        """
    ).fetchall()
    for schema, name in tables:
        try:
            connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, name)))
        except psycopg.Error as error:
            if error.sqlstate not in _LOOKED_UP_IN_VAIN:
                raise
            told.append(
                f'the planner has no statistics of "{schema}"."{name}": {error.diag.message_primary}; '
                "ANALYZE fails there in the live database, too"
            )
    return told
