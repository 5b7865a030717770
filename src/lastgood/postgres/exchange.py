"""The exchange of two databases' names in one transaction: the commit point of a rollback and of an undo.

Measured facts that shape it (PostgreSQL 15 to 18): a rename waits up to 5 s for other sessions of the database to end,
and while it waits new logins to that database queue. So the rename is issued first, and a second connection terminates
the sessions while it waits: no session can connect in between. ``statement_timeout`` bounds that wait, ``lock_timeout``
does not. Nothing changes before the commit: a killed client, a lost connection or a crash of the server leaves both
names unchanged. Logins that queued behind the transaction fail once with 3D000."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.postgres.server import Connection, Target, only_row
from lastgood.postgres.transactions import outcome_after_loss

STATEMENT_TIMEOUT = "4500ms"
IDLE_TIMEOUT = "5s"
WATCHDOG_SECONDS = 10.0
TRIES = 3
POLL_SECONDS = 0.01
# In use, our own time limit, idle too long, deadlock: nothing was changed, and a retry may succeed.
RETRIED = frozenset({"55006", "57014", "25P03", "40P01"})


@dataclass(frozen=True, slots=True)
class Renaming:
    """A database, by OID, with its old and its new name."""

    oid: int
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class ExchangeResult:
    """The result of an exchange. ``outage`` in seconds, from the moment that new logins queued to the commit;
    ``ended`` counts the terminated sessions."""

    outage: float
    ended: int
    tries: int


class NamesChanged(Exception):
    """The names on the server differ from those of the plan; nothing was done."""


def current_names(connection: Connection, oids: Sequence[int]) -> dict[int, str]:
    """The present names of databases, by OID, without those that no longer exist."""
    rows = connection.execute("SELECT oid::int8, datname FROM pg_database WHERE oid = ANY (%s)", [list(oids)])
    return {int(oid): str(name) for oid, name in rows}


@dataclass(frozen=True, slots=True)
class NameExchange:
    """``leaving`` is renamed and closed to logins, and ``arriving`` gets its name.

    ``statements`` run in the same transaction, after both renames; ``recheck`` is called after them and before the
    commit, and rolls everything back by raising. ``keep_until_last`` is the backend that fences off writers in the
    leaving database: every other session is terminated before ``release_last`` is called to release it. The three
    ``fault_points`` are between the renames, before the commit and after it."""

    leaving: Renaming
    arriving: Renaming
    statements: Sequence[sql.Composed]
    fault_points: tuple[str, str, str]
    recheck: Callable[[], None] = lambda: None
    keep_until_last: int | None = None
    release_last: Callable[[], None] | None = None

    @property
    def oids(self) -> list[int]:
        """The OIDs of both databases, that of the leaving one first."""
        return [self.leaving.oid, self.arriving.oid]


def exchange(
    connection: Connection, target: Target, wanted: NameExchange, *, helper: Connection | None = None
) -> ExchangeResult:
    """Exchange the names in one transaction on ``connection``, which must be to another database (the maintenance
    database) in autocommit mode. ``helper`` is a session in the same database, opened while a connection was free: it
    terminates the others, unless it was lost meanwhile.

    Raises NamesChanged, psycopg.Error when all tries failed (nothing changed), OutcomeUnknown.
    """
    leaving, arriving = wanted.leaving, wanted.arriving
    for attempt in range(1, TRIES + 1):
        current = current_names(connection, wanted.oids)
        if current != {leaving.oid: leaving.old, arriving.oid: arriving.old}:
            raise NamesChanged(f"expected {leaving.old!r} and {arriving.old!r}, found {sorted(current.values())}")
        pid = connection.info.backend_pid
        terminator = _Terminator(target, helper, wanted, pid)
        try:
            with terminator:
                started = time.monotonic()
                _transaction(connection, wanted, terminator)
                outage = time.monotonic() - started
            return ExchangeResult(outage, terminator.ended, attempt)
        except psycopg.Error as error:
            if connection.broken:
                if outcome_after_loss(target, pid, partial(_renamed, wanted)):
                    return ExchangeResult(time.monotonic() - started, terminator.ended, attempt)
                raise
            if error.sqlstate not in RETRIED or attempt == TRIES:
                raise
    raise AssertionError("unreachable: the last try returns or raises")


def _transaction(connection: Connection, wanted: NameExchange, terminator: _Terminator) -> None:
    leaving, arriving = wanted.leaving, wanted.arriving
    between, before, after = wanted.fault_points
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    with connection.transaction():
        connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(STATEMENT_TIMEOUT))
        connection.execute(sql.SQL("SET LOCAL idle_in_transaction_session_timeout = {}").format(IDLE_TIMEOUT))
        connection.execute("SET LOCAL synchronous_commit = local")
        terminator.begin()
        # The leaving database is renamed first: from here on logins to the live name queue.
        connection.execute(rename.format(sql.Identifier(leaving.old), sql.Identifier(leaving.new)))
        connection.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(leaving.new)))
        fault.point(between)
        connection.execute(rename.format(sql.Identifier(arriving.old), sql.Identifier(arriving.new)))
        for statement in wanted.statements:
            connection.execute(statement)
        wanted.recheck()
        fault.point(before)
        # The commit point comes last: everything that could fail has been done.
    fault.point(after)


def _renamed(wanted: NameExchange, connection: Connection) -> bool:
    """Return whether the exchange was committed."""
    new = {each.oid: each.new for each in (wanted.leaving, wanted.arriving)}
    return current_names(connection, wanted.oids) == new


def helper_session(target: Target) -> Connection:
    """The session that terminates the others during an exchange."""
    return target.connect(application_name="lastgood swap: terminates sessions")


def _alive(connection: Connection) -> bool:
    try:
        connection.execute("SELECT")
    except psycopg.Error:
        return False
    return True


class _Terminator:
    """Terminates the sessions of both databases from its own connection while the rename waits for them. Also a
    watchdog over the renaming session, since an open swap transaction blocks all logins."""

    def __init__(self, target: Target, helper: Connection | None, wanted: NameExchange, renaming_pid: int) -> None:
        self._own = helper is None or not _alive(helper)
        self._connection = helper_session(target) if helper is None or self._own else helper
        self._oids = wanted.oids
        self._renaming_pid = renaming_pid
        self._keep = wanted.keep_until_last
        self._release = wanted.release_last
        self._begun = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lastgood-swap", daemon=True)
        self.ended = 0

    def begin(self) -> None:
        """Begin to terminate sessions; called immediately before the rename is sent."""
        self._begun.set()

    def __enter__(self) -> _Terminator:
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
        terminated: set[int] = set()
        with suppress(psycopg.Error):  # a lost helper connection leads to a timeout of the rename
            self._wait_for_rename(deadline)
            while not self._over.is_set():
                if time.monotonic() > deadline:
                    self._connection.execute("SELECT pg_terminate_backend(%s)", [self._renaming_pid])
                    return
                rows = self._connection.execute(
                    "SELECT pid, backend_type FROM pg_stat_activity WHERE datid = ANY (%s)"
                    " AND pid NOT IN (pg_backend_pid(), %s)",
                    [self._oids, self._renaming_pid],
                ).fetchall()
                others = [int(pid) for pid, kind in rows if pid != self._keep]
                if not others and self._keep is not None and self._release is not None:
                    self._release()
                    self._keep = None
                for pid in others:
                    with suppress(psycopg.errors.InsufficientPrivilege):  # leads to a timeout of the rename
                        self._connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                        terminated.add(pid)
                self.ended = len(terminated)
                self._over.wait(POLL_SECONDS)

    def _wait_for_rename(self, deadline: float) -> None:
        """Wait until the rename holds its lock: sessions terminated sooner could reconnect."""
        while not self._over.is_set() and time.monotonic() < deadline:
            (locked,) = only_row(
                self._connection,
                "SELECT count(*) FROM pg_locks WHERE pid = %s AND locktype = 'object' AND objid = %s"
                " AND classid = 'pg_database'::regclass AND mode = 'AccessExclusiveLock' AND granted",
                [self._renaming_pid, self._oids[0]],
            )
            if locked:
                return
            self._over.wait(0.002)
