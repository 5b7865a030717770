"""A synchronous standby that never answers, and a commit that waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from lastgood.postgres.embedded import EmbeddedServer
from tests.support.waiting import until

# What a server needs before a commit waits for a standby at all.
SETTINGS = {"wal_level": "replica", "max_wal_senders": "2", "synchronous_commit": "on"}
COMMIT = "TRUNCATE public.waits /*'a password'*/"


def standby_missing(server: EmbeddedServer, *, back: bool = False) -> None:
    """From now on commits wait for a standby that is not there; ``back``: no longer."""
    with server.target("postgres").connect() as connection:
        if back:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
        else:
            connection.execute("ALTER SYSTEM SET synchronous_standby_names TO 'ghost'")
        connection.execute("SELECT pg_reload_conf()")
        wanted = "" if back else "ghost"
        until(lambda: connection.execute("SHOW synchronous_standby_names").fetchone() == (wanted,))


@contextmanager
def commit_waiting_for_standby(server: EmbeddedServer) -> Iterator[int]:
    """A commit, in another database, that waits for a standby which never answers; its process. ``server`` was started
    with SETTINGS."""
    # Not lastgood's name: a test may end all sessions that have it.
    with server.target("postgres").connect(application_name="the application's owner") as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS public.waits (secret text)")
        standby_missing(server)
        with psycopg.connect(
            server.url("postgres"), autocommit=True, application_name="the other application"
        ) as session:
            pid = session.info.backend_pid

            def commit() -> None:
                with suppress(psycopg.Error):  # it is ended
                    session.execute(COMMIT)

            thread = threading.Thread(target=commit, daemon=True)
            thread.start()
            try:
                until(lambda: _waits(connection, pid), "the commit waits for the standby", seconds=20)
                yield pid
            finally:
                standby_missing(server, back=True)
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                thread.join()


def _waits(connection: psycopg.Connection[tuple[object, ...]], pid: int) -> bool:
    row = connection.execute("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone()
    return row is not None and row[0] == "SyncRep"
