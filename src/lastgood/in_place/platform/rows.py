"""Differences between the platform's rows and the restore point's: parents deleted since, and parents added since.

Rows of the platform's tables do not go back. So a restored row may refer to a parent that was deleted since, and a
parent may have been added since, which no restored row knows: a user who signed up can log in, but the application does
not know them."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from lastgood.in_place.ties import ForeignKey
from lastgood.postgres.server import Connection

_COLUMNS = """
SELECT ARRAY(SELECT a.attname FROM unnest(o.conkey) WITH ORDINALITY k (n, i)
             JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.n ORDER BY k.i),
       ARRAY(SELECT a.attname FROM unnest(o.confkey) WITH ORDINALITY k (n, i)
             JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.n ORDER BY k.i),
       o.confdeltype::text
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND o.conname = %s AND o.contype = 'f'
"""
# The action of ON DELETE, which decides about rows whose parent was deleted since.
_ACTIONS = {"a": "NO ACTION", "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


@dataclass(frozen=True, slots=True)
class Difference:
    """For one foreign key to the platform: ``orphans``, rows in ``table`` whose parent does not exist; ``strangers``,
    rows of the parent table that no row refers to. ``on_delete`` is the key's own action."""

    key: ForeignKey
    on_delete: str
    orphans: int
    strangers: int


def difference(connection: Connection, key: ForeignKey, *, schema: str | None = None) -> Difference | None:
    """Count both for a foreign key of the live database. ``schema``: where the table to be counted is, for example a
    staging schema without the key; default is the live one. None when the live table has no such key. Columns are those
    of the live key. Raises psycopg.Error."""
    row = connection.execute(_COLUMNS, [key.schema_name, key.table, key.name]).fetchone()
    if row is None:
        return None
    columns, targets, action = row
    child = sql.Identifier(schema or key.schema_name, key.table)
    parent = sql.Identifier(key.target_schema, key.target_table)
    return Difference(
        key,
        _ACTIONS[action],
        orphans=_count(connection, child, columns, parent, targets, not_null=True),
        strangers=_count(connection, parent, targets, child, columns, not_null=False),
    )


def added_since(connection: Connection, key: ForeignKey, *, staging: str) -> int:
    """The parents that a row of the live table refers to and no row of the same table in ``staging`` does: with a table
    of profiles, the users who signed up since the restore point."""
    row = connection.execute(_COLUMNS, [key.schema_name, key.table, key.name]).fetchone()
    if row is None:
        return 0
    live, restored = sql.Identifier(key.schema_name, key.table), sql.Identifier(staging, key.table)
    columns = row[0]
    listed = sql.SQL(", ").join(sql.Identifier(column) for column in columns)
    counted = connection.execute(
        sql.SQL("SELECT count(*) FROM (SELECT {} FROM {} WHERE {} EXCEPT SELECT {} FROM {}) d").format(
            listed, live, _given(columns), listed, restored
        )
    ).fetchone()
    assert counted is not None
    return int(counted[0])


def _given(columns: list[str]) -> sql.Composed:
    return sql.SQL(" AND ").join(sql.SQL("{} IS NOT NULL").format(sql.Identifier(column)) for column in columns)


def _count(
    connection: Connection,
    of: sql.Identifier,
    columns: list[str],
    without: sql.Identifier,
    others: list[str],
    *,
    not_null: bool,
) -> int:
    """The rows of one table that have no partner in the other."""
    joined = sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier("o", other), sql.Identifier("t", column))
        for column, other in zip(columns, others, strict=True)
    )
    row = connection.execute(
        sql.SQL("SELECT count(*) FROM {} t WHERE {} AND NOT EXISTS (SELECT FROM {} o WHERE {})").format(
            of, _given(columns) if not_null else sql.SQL("true"), without, joined
        )
    ).fetchone()
    assert row is not None
    return int(row[0])
