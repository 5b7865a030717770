"""Sequences set past rows that were inserted with their numbers."""

from __future__ import annotations

from psycopg import sql

from lastgood.postgres.server import Connection

_SEQUENCE = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqmin, s.seqmax FROM pg_catalog.pg_sequence s
JOIN pg_catalog.pg_class c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %s
"""


def advance(connection: Connection, oid: int, numbers: sql.Composable) -> None:
    """Set a sequence past the ``numbers``, a query for their least and greatest; never back. It is locked first, until
    the end of the transaction: ``nextval`` waits, and a rollback restores it, which ``setval`` would not."""
    row = connection.execute(sql.Composed([numbers])).fetchone()
    known = connection.execute(_SEQUENCE, [oid]).fetchone()
    if row is None or known is None or not isinstance(row[0], int):
        return
    schema, name, increment, least, most = known
    sequence = sql.Identifier(schema, name)
    end = row[1] if increment > 0 else row[0]
    if not least <= end <= most or not _behind(connection, sequence, increment, end):
        return
    connection.execute(sql.SQL("ALTER SEQUENCE {} INCREMENT BY {}").format(sequence, sql.Literal(increment)))
    if _behind(connection, sequence, increment, end) and least <= end + increment <= most:
        connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART WITH {}").format(sequence, sql.Literal(end + increment)))


def _behind(connection: Connection, sequence: sql.Identifier, increment: int, end: int) -> bool:
    row = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sequence)).fetchone()
    assert row is not None  # a sequence has one row
    following = row[0] + increment if row[1] else row[0]
    return bool(following <= end if increment > 0 else following >= end)
