"""The skew between the server's clock and ours, so that events of two machines are shown in one time."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from lastgood.postgres.mark import server_clock
from lastgood.postgres.server import Connection

TRIES = 3


def skew(connection: Connection) -> float | None:
    """The number of seconds by which the server's clock is ahead of ours (negative: behind), as exact as the shortest
    of a few round trips allows; None where the server does not answer."""
    samples: list[tuple[float, float]] = []
    try:
        for _ in range(TRIES):
            before = datetime.now(UTC)
            server = server_clock(connection)
            after = datetime.now(UTC)
            trip = (after - before).total_seconds()
            samples.append((trip, (server - before).total_seconds() - trip / 2))
    except psycopg.Error:
        return None
    return round(min(samples)[1], 3)
