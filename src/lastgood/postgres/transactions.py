"""Numbers of transactions: which rows were written before, and which after, a moment of the server."""

from __future__ import annotations

from lastgood.postgres.server import Connection

NEXT = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8"
"""The number that the next transaction of the server gets. Reading it takes none."""


def following(connection: Connection) -> int:
    """The number that the next transaction of the server gets, 64 bits wide."""
    row = connection.execute(NEXT).fetchone()
    assert row is not None  # a SELECT without FROM always gives a row
    return int(row[0])
