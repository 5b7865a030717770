"""The planner's statistics, also of a table that can't be analyzed."""

from __future__ import annotations

import psycopg
from psycopg import sql

from lastgood.postgres.server import Connection

# What ANALYZE meets in a function of the user's, which it calls with an empty search path from 17 on.
_LOOKED_UP_IN_VAIN = frozenset({"42P01", "42883", "42704", "3F000"})


def analyze(connection: Connection, table: sql.Identifier) -> str | None:
    """Analyzes a table. Returns why the server could not, where a function in an index of it counts on a search path:
    then it can't in the live database either. Raises psycopg.Error for anything else.
    """
    try:
        connection.execute(sql.SQL("ANALYZE {}").format(table))
    except psycopg.Error as error:
        if error.sqlstate not in _LOOKED_UP_IN_VAIN or not error.diag.context:
            raise
        return f"{error.diag.message_primary}; ANALYZE fails there in the live database, too"
    return None
