"""How far the server's clock is from ours: what is done on two machines is told in the time of one."""

from __future__ import annotations

from datetime import UTC, datetime

import psycopg

from lastgood.postgres.mark import server_clock
from lastgood.postgres.server import Connection

TRIES = 3


def skew(connection: Connection) -> float | None:
    """By how many seconds the server's clock is ahead of ours (negative: behind), as exactly as the shortest of a few
    round trips tells; None where the server does not answer."""
    found: list[tuple[float, float]] = []
    try:
        for _ in range(TRIES):
            before = datetime.now(UTC)
            server = server_clock(connection)
            after = datetime.now(UTC)
            trip = (after - before).total_seconds()
            found.append((trip, (server - before).total_seconds() - trip / 2))
    except psycopg.Error:
        return None
    return round(min(found)[1], 3)
