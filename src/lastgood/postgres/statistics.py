"""ANALYZE of one table, as far as it runs without a look at another server."""

from __future__ import annotations

from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.postgres.server import Connection

# Errors from a user's function that ANALYZE calls, from 17 on with an empty search path.
_NOT_FOUND = frozenset({"42P01", "42883", "42704", "3F000"})
# Only expressions compute while rows are sampled.
_DATA_EXCEPTION = "22"
# For a pg_class "c": whether it has a foreign table below it, from whose server ANALYZE would read rows.
READS_FOREIGN: LiteralString = """
  EXISTS (
    WITH RECURSIVE below (oid) AS (
      SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = c.oid
      UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN below ON i.inhparent = below.oid)
    SELECT FROM below JOIN pg_catalog.pg_class f ON f.oid = below.oid WHERE f.relkind = 'f')
"""
_READS_FOREIGN = sql.SQL("SELECT FROM pg_catalog.pg_class c WHERE c.oid = to_regclass(%s) AND ") + sql.SQL(
    READS_FOREIGN
)
FOREIGN = "ANALYZE would read the foreign tables below it"


def analyze(connection: Connection, table: sql.Identifier) -> str | None:
    """Analyze a table. Returns the reason if it was not done: it has a foreign table below it; or an expression of an
    index or a statistics object fails, because its function depends on a search path or because of a value, and then
    ANALYZE fails in the live database too. Raises psycopg.Error for any other error.
    """
    if connection.execute(_READS_FOREIGN, [table.as_string(connection)]).fetchone() is not None:
        return FOREIGN
    try:
        connection.execute(sql.SQL("ANALYZE {}").format(table))
    except psycopg.Error as error:
        of_value = (error.sqlstate or "").startswith(_DATA_EXCEPTION)
        if not of_value and (error.sqlstate not in _NOT_FOUND or not error.diag.context):
            raise
        return f"{error.diag.message_primary}; ANALYZE fails there in the live database, too"
    return None
