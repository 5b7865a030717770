"""Rows of the platform's tables that were added since the restore point: no restored row refers to them.

Rows of the platform's tables do not go back. A user who signed up since can therefore log in, but the application does
not know them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from psycopg import errors, sql

from lastgood.in_place import names
from lastgood.in_place.ties import TiedKey, queries
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

_COLUMNS = """
SELECT ARRAY(SELECT a.attname FROM unnest(o.conkey) WITH ORDINALITY k (n, i)
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i)
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND o.conname = %s AND o.contype = 'f'
"""


def remarks(connection: Connection, run: str, schemas: Iterable[str]) -> Iterator[str]:
    """What the live ``schemas`` know of the platform's tables, and the staging schemas of ``run`` do not, in words.
    Tables that this session must not query are left out. Raises psycopg.Error."""
    without = not_to_query(connection)
    for key in queries.foreign_keys(connection, schemas):
        staging = names.staging(run, key.schema_name)
        if not without.isdisjoint((schema, key.table) for schema in (key.schema_name, staging)):
            continue
        try:
            added = count(connection, key, staging=staging)
        except (errors.UndefinedTable, errors.UndefinedColumn, errors.DatatypeMismatch):
            continue  # the restore point does not have the table, or has other columns
        except errors.InsufficientPrivilege:
            continue  # row-level security hides rows of a table
        if added:
            yield (
                f"{counted(added, 'row')} of {key.target_schema}.{key.target_table}, added since the restore point, "
                f"will have no matching row in {key.schema_name}.{key.table}; the matching rows are kept in schema "
                f'"{names.kept(run, key.schema_name)}"'
            )


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
    found = connection.execute(
        # Distinct values first: usually they are few.
        sql.SQL(
            "SELECT count(*) FROM ((SELECT DISTINCT {} FROM {} WHERE {}) EXCEPT (SELECT DISTINCT {} FROM {})) d"
        ).format(listed, live, given, listed, restored)
    ).fetchone()
    assert found is not None
    return int(found[0])
