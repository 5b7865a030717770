"""Recognition of the time zone of a dump that does not record it: the zone in which the server writes its time stamps
identically."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from lastgood.postgres.server import Connection, only_row


def recognise(connection: Connection, samples: Sequence[str]) -> str | None:
    """The time zone in which the server writes every sample exactly as in the dump; None without such a zone or without
    samples. The server's own zone is tried first (pg_dump most likely ran in it), then UTC, then all others.

    For use inside a transaction; it changes the transaction's TimeZone.
    """
    if not samples:
        return None
    (own,) = only_row(connection, "SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'TimeZone'")
    connection.execute("SET LOCAL DateStyle = 'ISO'")
    for zone in (own, "UTC"):
        if _reads_alike(connection, zone, samples):
            return str(zone)
    for (zone,) in connection.execute("SELECT name FROM pg_catalog.pg_timezone_names ORDER BY name").fetchall():
        if _reads_alike(connection, zone, samples):
            return str(zone)
    return None


def _reads_alike(connection: Connection, zone: str, samples: Sequence[str]) -> bool:
    connection.execute(sql.SQL("SET LOCAL TimeZone = {}").format(sql.Literal(zone)))
    row = connection.execute(
        "SELECT bool_and(sample::timestamptz::text = sample) FROM unnest(%s::text[]) sample", [list(samples)]
    ).fetchone()
    return row is not None and bool(row[0])
