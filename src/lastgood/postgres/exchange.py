"""The exchange of two databases' names in one transaction: the commit point of a rollback and of an undo.

Measured facts that shape it (PostgreSQL 15 to 18): a rename waits up to 5 s for other sessions of the database to
go, and while it waits new logins to that database queue. So the rename is issued first and the sessions are ended
from a second connection while it waits: nobody can slip in between. ``lock_timeout`` does not bound that wait,
``statement_timeout`` does. Until the commit nothing has happened: a killed client, a cut connection or a crash of the
server leaves both names as they were. Logins that queued behind the transaction are refused once with 3D000.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.postgres.server import Connection, Target

STATEMENT_TIMEOUT = "4500ms"
IDLE_TIMEOUT = "5s"
WATCHDOG_SECONDS = 10.0
TRIES = 3
POLL_SECONDS = 0.01
# In use, our own time limit, idle too long, lost a deadlock: worth another try, nothing was changed.
RETRIED = frozenset({"55006", "57014", "25P03", "40P01"})


@dataclass(frozen=True, slots=True)
class Renaming:
    """A database, by OID, and the name that it has and gets."""

    oid: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """How an exchange went. ``outage`` in seconds, from the moment that new logins queued to the commit;
    ``ended`` counts the sessions that were ended."""

    outage: float
    ended: int
    tries: int


class NamesChanged(Exception):
    """The names on the server are not those that the plan was made for; nothing was done."""


class OutcomeUnknown(Exception):
    """The connection was lost during the commit and the server can't be asked."""


def names(connection: Connection, oids: Sequence[int]) -> dict[int, str]:
    """The present names of databases, by OID; those that are gone are absent."""
    rows = connection.execute("SELECT oid::int8, datname FROM pg_database WHERE oid = ANY (%s)", [list(oids)])
    return {int(oid): str(name) for oid, name in rows}


def exchange(
    connection: Connection,
    target: Target,
    *,
    leaving: Renaming,
    arriving: Renaming,
    statements: Sequence[sql.Composed],
    fault_points: tuple[str, str, str],
    look_again: Callable[[], None] = lambda: None,
    keep_until_last: int | None = None,
    release_last: Callable[[], None] | None = None,
    helper: Connection | None = None,
) -> Exchanged:
    """Renames ``leaving`` out of the way, closes it to logins, and gives its name to ``arriving``; all in one
    transaction on ``connection``, which must be to another database (the maintenance database) in autocommit mode.

    ``statements`` run in the same transaction, after both renames; ``look_again`` is called after them and before the
    commit, and takes everything back by raising. ``keep_until_last`` is the backend that fences
    writers in the leaving database: every other session is ended before ``release_last`` is called to let it go.
    The three ``fault_points`` stand between the renames, before the commit and after it. ``helper`` is a session at the
    same database that was opened when there was room for one: it ends the others, unless it was lost meanwhile.

    Raises NamesChanged, psycopg.Error when all tries failed (nothing changed), OutcomeUnknown.
    """
    for attempt in range(1, TRIES + 1):
        found = names(connection, [leaving.oid, arriving.oid])
        if found != {leaving.oid: leaving.old, arriving.oid: arriving.old}:
            raise NamesChanged(f"expected {leaving.old!r} and {arriving.old!r}, found {sorted(found.values())}")
        pid = connection.info.backend_pid
        crowd = _Crowd(target, helper, leaving.oid, arriving.oid, pid, keep_until_last, release_last)
        try:
            with crowd:
                started = time.monotonic()
                _transaction(connection, leaving, arriving, statements, fault_points, look_again, crowd)
                outage = time.monotonic() - started
            return Exchanged(outage, crowd.ended, attempt)
        except psycopg.Error as error:
            if connection.broken:
                if _committed(target, pid, leaving, arriving):
                    return Exchanged(time.monotonic() - started, crowd.ended, attempt)
                raise
            if error.sqlstate not in RETRIED or attempt == TRIES:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _transaction(
    connection: Connection,
    leaving: Renaming,
    arriving: Renaming,
    statements: Sequence[sql.Composed],
    fault_points: tuple[str, str, str],
    look_again: Callable[[], None],
    crowd: _Crowd,
) -> None:
    between, before, after = fault_points
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(STATEMENT_TIMEOUT))
        connection.execute(sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(IDLE_TIMEOUT))
        connection.execute("SET LOCAL synchronous_commit = local")
        crowd.begin()
        # The database that arrives is renamed out of its own name last: from here on logins to the live name queue.
        connection.execute(rename.format(sql.Identifier(leaving.old), sql.Identifier(leaving.new)))
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(leaving.new)))
        fault.point(between)
        connection.execute(rename.format(sql.Identifier(arriving.old), sql.Identifier(arriving.new)))
        for statement in statements:
            connection.execute(statement)
        look_again()
        fault.point(before)
        # The commit point, and the last thing: everything that could fail has been done.
    fault.point(after)


def _committed(target: Target, pid: int, leaving: Renaming, arriving: Renaming) -> bool:
    """Whether the exchange took place, asked on a new connection after the old one broke.

    Not before the server process that did it is gone: it may still be at its COMMIT.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            with target.connect() as connection:
                busy = connection.execute(
                    "SELECT FROM pg_stat_activity WHERE pid = %s AND pid <> pg_backend_pid()"
                    " AND datname = current_database()",
                    [pid],
                ).fetchone()
                if busy is None:
                    found = names(connection, [leaving.oid, arriving.oid])
                    return found == {leaving.oid: leaving.new, arriving.oid: arriving.new}
            if time.monotonic() > deadline:
                raise OutcomeUnknown("the session that switches does not end")
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise OutcomeUnknown(str(error)) from error
        time.sleep(0.2)  # the server may be restarting; nothing announces its return


def helper_session(target: Target) -> Connection:
    """The session that ends the others during an exchange."""
    return target.connect(application_name="lastgood swap: ends sessions")


def _alive(connection: Connection) -> bool:
    try:
        connection.execute("SELECT")
    except psycopg.Error:
        return False
    return True


class _Crowd:
    """Ends the sessions of both databases from a connection of its own while the rename waits for them; a watchdog
    over the renaming session as well, for an open swap transaction keeps everybody from logging in."""

    def __init__(
        self,
        target: Target,
        helper: Connection | None,
        leaving: int,
        arriving: int,
        renaming_pid: int,
        keep_until_last: int | None,
        release_last: Callable[[], None] | None,
    ) -> None:
        self._own = helper is None or not _alive(helper)
        self._connection = helper_session(target) if helper is None or self._own else helper
        self._leaving = leaving
        self._arriving = arriving
        self._renaming_pid = renaming_pid
        self._keep = keep_until_last
        self._release = release_last
        self._begun = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lastgood-swap", daemon=True)
        self.ended = 0

    def begin(self) -> None:
        """From now on sessions are ended; called just before the rename is sent."""
        self._begun.set()

    def __enter__(self) -> _Crowd:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._begun.set()
        self._thread.join(timeout=WATCHDOG_SECONDS)
        if self._own:
            self._connection.close()

    def _work(self) -> None:
        self._begun.wait()
        deadline = time.monotonic() + WATCHDOG_SECONDS
        seen: set[int] = set()
        with suppress(psycopg.Error):  # a lost helper connection shows as a rename that times out
            self._wait_for_rename(deadline)
            while not self._over.is_set():
                if time.monotonic() > deadline:
                    self._connection.execute("SELECT pg_terminate_backend(%s)", [self._renaming_pid])
                    return
                rows = self._connection.execute(
                    "SELECT pid, backend_type FROM pg_stat_activity WHERE datid IN (%s, %s)"
                    " AND pid NOT IN (pg_backend_pid(), %s)",
                    [self._leaving, self._arriving, self._renaming_pid],
                ).fetchall()
                others = [int(pid) for pid, kind in rows if pid != self._keep]
                if not others and self._keep is not None and self._release is not None:
                    self._release()
                    self._keep = None
                for pid in others:
                    with suppress(psycopg.errors.InsufficientPrivilege):  # shows as a rename that times out
                        self._connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                        seen.add(pid)
                self.ended = len(seen)
                self._over.wait(POLL_SECONDS)

    def _wait_for_rename(self, deadline: float) -> None:
        """Until the rename holds its lock: sessions that were ended sooner would simply come back."""
        while not self._over.is_set() and time.monotonic() < deadline:
            (held,) = self._connection.execute(
                "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'object' AND objid = %s"
                " AND classid = 'pg_database'::regclass AND mode = 'AccessExclusiveLock' AND granted",
                [self._renaming_pid, self._leaving],
            ).fetchone() or (0,)
            if held:
                return
            self._over.wait(0.002)
