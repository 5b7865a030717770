"""SHARE locks on every table of a database: writers wait, readers continue.

One session holds them, and the server enforces them against all roles, including superusers. They change nothing that
would have to be reversed, and end with the session, so a dead process blocks no writer. Neither does a stalled one
(SIGSTOP, a frozen machine, a dead link): the server terminates the session if it sends nothing for a while.

A command that needs an ACCESS EXCLUSIVE lock (ALTER TABLE, TRUNCATE) would wait behind these locks, and every reader,
including our own backup, behind it: it is cancelled as soon as it waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import datetime

import psycopg
from psycopg import sql

from lastgood.context import Context
from lastgood.errors import Failed
from lastgood.events import Caution, Emit
from lastgood.models import Frozen
from lastgood.postgres.database import Database
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection, only_row

LOCK_TIMEOUT = "3s"
# After this time without a statement the server terminates the session that holds the locks.
SILENCE = "30s"
BEAT_SECONDS = 3.0
TRIES = 5
# Modes that a writer holds; SHARE waits for each of them.
WRITING = (
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)

# Sessions that wait for our locks and would block readers.
_WAITING_ALONE = """
SELECT DISTINCT a.pid, a.usename, a.application_name FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.database = %s AND l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' AND NOT l.granted
  AND a.backend_type = 'client backend' AND %s = ANY (pg_catalog.pg_blocking_pids(l.pid))
"""
POLL_SECONDS = 0.2

_TABLES = """
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
ORDER BY c.oid
"""
_LOCKED = """
SELECT count(DISTINCT c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_locks l ON l.locktype = 'relation' AND l.relation = c.oid AND l.mode = 'ShareLock' AND l.granted
 AND l.pid = pg_backend_pid()
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
# Large objects are in a catalogue whose readers take a writer's lock: locking it would block readers, too.
_LARGE_OBJECTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"


class Guard(threading.Thread):
    """While the session ``fence`` holds the locks, cancel statements that wait for an ACCESS EXCLUSIVE lock, and send
    statements through it that prevent its timeout. Ends with ``over``. ``connect`` opens a connection to the
    maintenance database."""

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Connection]],
        oid: int,
        fence: Connection,
        context: Context,
        *,
        over: threading.Event,
        using: threading.Lock,
    ) -> None:
        """``using`` is held while the session ``fence`` is used, so that it is not closed meanwhile."""
        super().__init__(name="lastgood-fence", daemon=True)
        self._using = using
        self._connect = connect
        self._oid = oid
        self._fence = fence
        self._context = context
        self._over = over

    def run(self) -> None:
        """Check at intervals until the end."""
        over, fence = self._over, self._fence.info.backend_pid
        reported: set[int] = set()
        beaten = time.monotonic()
        try:
            with self._connect() as connection:
                while not over.wait(POLL_SECONDS):
                    if time.monotonic() - beaten > BEAT_SECONDS:
                        beaten = time.monotonic()
                        with self._using, suppress(psycopg.Error):  # the users of the fence verify that it held
                            if not over.is_set():
                                self._fence.execute("SELECT")
                    rows = connection.execute(_WAITING_ALONE, [self._oid, fence]).fetchall()
                    for pid, user, application in rows:
                        with suppress(psycopg.errors.InsufficientPrivilege):
                            connection.execute("SELECT pg_cancel_backend(%s)", [pid])
                        if pid not in reported:
                            reported.add(pid)
                            self._context.emit(
                                Caution(
                                    f'cancelled a command of session {pid} of "{user}" ({application or "no name"}): '
                                    "it waited for an ACCESS EXCLUSIVE lock, and readers would have queued behind it"
                                )
                            )
        except psycopg.Error as error:
            if not over.is_set() and not self._context.cancelled():
                self._context.emit(
                    Caution(
                        f"lock monitoring stopped; readers may now queue behind blocked writers: {message_of(error)}"
                    )
                )


class FenceStatus(Frozen):
    """The session that locks ``tables`` tables against writers."""

    pid: int
    application: str
    tables: int
    since: datetime | None


def holder(connection: Connection, oid: int) -> FenceStatus | None:
    """The session of lastgood that fences off writers from a database; None without one. Raises psycopg.Error."""
    row = connection.execute(
        "SELECT a.pid, a.application_name, count(*), min(a.xact_start) FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.database = %s AND l.locktype = 'relation' AND l.mode = 'ShareLock' AND l.granted"
        " AND a.application_name LIKE 'lastgood fence %%' GROUP BY a.pid, a.application_name LIMIT 1",
        [oid],
    ).fetchone()
    if row is None:
        return None
    return FenceStatus(pid=row[0], application=row[1], tables=row[2], since=row[3])


def lock_counts(connection: Connection) -> tuple[int, int, bool]:
    """The number of tables that the connection's session has locked, the number of all tables, and whether there are
    large objects, which cannot be locked. Raises psycopg.Error, also when the session is gone."""
    (locked,) = only_row(connection, _LOCKED)
    tables = len(connection.execute(_TABLES).fetchall())
    (large_objects,) = only_row(connection, _LARGE_OBJECTS)
    return locked, tables, large_objects


def lock_all(connection: Connection, maintenance: Connection, database: Database, context: Context) -> int:
    """Take a SHARE lock on every table of ``database`` in the transaction of ``connection``, which must not be in
    autocommit mode; the number of tables. Sessions whose write transactions outlast the timeout are terminated: they
    had not committed, so no confirmed write is lost. Raises Failed, Interrupted."""
    for attempt in range(1, TRIES + 1):
        context.check("interrupted while the live database was fenced")
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        try:
            tables = connection.execute(_TABLES).fetchall()
            for start in range(0, len(tables), 500):
                names = [sql.Identifier(*name) for name in tables[start : start + 500]]
                connection.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE MODE").format(sql.SQL(", ONLY ").join(names)))
            silence = sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}")
            connection.execute(silence.format(sql.Literal(SILENCE)))
            return len(tables)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.UndefinedTable):
            connection.rollback()
            if attempt > 1:
                _terminate_writers(maintenance, database.oid, connection.info.backend_pid, context.emit)
    raise Failed(
        f'cannot fence off writers from "{database.name}": some sessions hold locks and could not be terminated',
        hint="Terminate those sessions first, lastgood maintenance shows them; or run a rollback with --fence at-swap.",
    )


def _terminate_writers(maintenance: Connection, oid: int, own: int, emit: Emit) -> None:
    rows = maintenance.execute(
        "SELECT DISTINCT a.pid, a.usename, a.application_name FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.database = %s AND l.locktype = 'relation' AND l.granted AND l.mode = ANY (%s) AND a.pid <> %s"
        " AND a.backend_type = 'client backend' AND l.relation >= 16384",
        [oid, list(WRITING), own],
    ).fetchall()
    for pid, user, application in rows:
        with suppress(psycopg.errors.InsufficientPrivilege):
            maintenance.execute("SELECT pg_terminate_backend(%s)", [pid])
            emit(
                Caution(
                    f'terminated session {pid} of "{user}" ({application or "no name"}): '
                    "its write transaction remained open"
                )
            )
