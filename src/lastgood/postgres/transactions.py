"""Transactions: the outcome of one whose connection was lost during the commit, their numbers, and their durability."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg

from lastgood.postgres.server import Connection, Target, only_row

NEXT = "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::int8"
"""The number that the next transaction of the server gets. Reading it takes none."""
ASYNCHRONOUS = "SET synchronous_commit = off"
"""For work that is done again after a crash of the server, or whose last commit waits for the disk."""
SECONDS = 30.0
_POLL_SECONDS = 0.2
# A pooler may lend the server process to another client afterwards: a session that is idle has ended its transaction.
_BUSY = """
SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %s AND pid <> pg_catalog.pg_backend_pid()
AND datname = pg_catalog.current_database() AND state IS DISTINCT FROM 'idle'
"""


class OutcomeUnknown(Exception):
    """The connection was lost during the commit, and the outcome could not be determined in time."""


def server_process(connection: Connection) -> int:
    """Return the process ID of the session on the server; a pooler announces one of its own."""
    row = only_row(connection, "SELECT pg_catalog.pg_backend_pid()")
    return int(row[0])


def outcome_after_loss(target: Target, pid: int, committed: Callable[[Connection], bool | None]) -> bool:
    """Return whether a transaction was committed, checked on a new connection to ``target``, the database of its
    session. ``committed`` answers None as long as the transaction is in progress.

    Waits for server process ``pid``, which may still be executing the COMMIT.
    Raises OutcomeUnknown after ``SECONDS``.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        unknown: psycopg.Error | None = None
        try:
            with target.connect() as connection:
                if connection.execute(_BUSY, [pid]).fetchone() is None:
                    outcome = committed(connection)
                    if outcome is not None:
                        return outcome
        except psycopg.Error as error:
            unknown = error
        if time.monotonic() > deadline:
            why = "the server process of the transaction does not end" if unknown is None else str(unknown)
            raise OutcomeUnknown(why) from unknown
        time.sleep(_POLL_SECONDS)  # the server may be restarting; nothing announces its return


def following(connection: Connection) -> int:
    """The number that the next transaction of the server gets, 64 bits wide."""
    row = only_row(connection, NEXT)
    return int(row[0])
