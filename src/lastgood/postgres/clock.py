"""The server's clock, which names and marks of runs use because clocks of machines differ, and its skew to ours."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from lastgood.postgres.server import Connection, only_row

TRIES = 3


def now(connection: Connection) -> datetime:
    """Return the server's present time."""
    row = only_row(connection, "SELECT clock_timestamp()")
    time: datetime = row[0]
    return time


def skew(connection: Connection) -> float | None:
    """Return the number of seconds by which the server's clock is ahead of ours (negative: behind), as exact as the
    shortest of a few round trips allows; None if the server does not answer."""
    samples: list[tuple[float, float]] = []
    try:
        for _ in range(TRIES):
            before = datetime.now(UTC)
            server = now(connection)
            after = datetime.now(UTC)
            trip = (after - before).total_seconds()
            samples.append((trip, (server - before).total_seconds() - trip / 2))
    except psycopg.Error:
        return None
    return round(min(samples)[1], 3)
