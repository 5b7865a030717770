"""Rows of the platform's tables that were added since the restore point: no restored row refers to them.

Rows of the platform's tables do not go back. A user who signed up since can therefore log in, but the application does
not know them."""

from __future__ import annotations

from psycopg import sql

from lastgood.in_place.ties import TiedKey
from lastgood.postgres.server import Connection

_COLUMNS = """
SELECT ARRAY(SELECT a.attname FROM unnest(o.conkey) WITH ORDINALITY k (n, i)
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i)
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND o.conname = %s AND o.contype = 'f'
"""


def count(connection: Connection, key: TiedKey, *, staging: str) -> int:
    """Count the parents that a row of the live table refers to and no row of the same table in ``staging`` does: with a
    table of profiles, the users who signed up since the restore point. Raises psycopg.Error."""
    row = connection.execute(_COLUMNS, [key.schema_name, key.table, key.name]).fetchone()
    if row is None:
        return 0
    columns = [sql.Identifier(column) for column in row[0]]
    listed = sql.SQL(", ").join(columns)
    given = sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(column) for column in columns)
    live, restored = sql.Identifier(key.schema_name, key.table), sql.Identifier(staging, key.table)
    counted = connection.execute(
        sql.SQL("SELECT count(*) FROM (SELECT {} FROM {} WHERE {} EXCEPT SELECT {} FROM {}) d").format(
            listed, live, given, listed, restored
        )
    ).fetchone()
    assert counted is not None
    return int(counted[0])
