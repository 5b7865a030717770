"""The fence: writers wait, readers go on.

One session of ours holds SHARE locks on every table of the live database. The server enforces them against everyone,
superusers included; nothing is changed that would have to be changed back; and they end with our session, so a dead
tool locks nobody out. What waits behind them is ended by the swap and meets the restored database when it
comes back. The locks are let go only after every other session was ended inside the swap.

A command that wants a table to itself (ALTER TABLE, TRUNCATE) would wait behind our locks, and every reader behind it,
our own backup too: it is cancelled as soon as it waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.errors import Failed, Interrupted
from lastgood.events import Caution
from lastgood.postgres.activity import writes
from lastgood.postgres.server import Connection
from lastgood.steps import FenceProof, Run

LOCK_TIMEOUT = "3s"
TRIES = 5
# Modes that a writer holds; SHARE waits for each of them.
WRITING = (
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)

# The readers' only enemy, where it waits for us.
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
_HELD = """
SELECT count(DISTINCT c.oid) FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_locks l ON l.locktype = 'relation' AND l.relation = c.oid AND l.mode = 'ShareLock' AND l.granted
 AND l.pid = pg_backend_pid()
WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
"""
# Large objects live in a catalogue whose readers take a writer's lock: to lock it would keep readers out, too.
_LARGE_OBJECTS = "SELECT EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)"


class Fence:
    """``--fence now``. With ``at-swap`` the swap itself is the fence and this step only notes where writes stood."""

    name = "fence"
    title = "keep writers out of the live database (readers go on)"
    commits = False

    def do(self, run: Run) -> Mapping[str, Any]:
        if run.plan.fence == "at-swap":
            baseline = writes(run.maintenance, run.plan.live_oid)
            run.findings.fence = FenceProof("at-swap", "", None)
            return {"baseline": baseline, "detail": "at the swap: writers go on until then"}
        connection = run.target.connect(autocommit=False, application_name=f"lastgood fence {run.plan.run}")
        run.fence_connection = connection
        began = time.monotonic()
        tables = _lock_all(run, connection)
        _Guard(run, connection.info.backend_pid).start()
        fault.point("fence.after_lock")
        run.findings.fence = FenceProof("table locks", f"SHARE locks on {tables} of {tables} tables", None, began)
        return {"tables": tables, "detail": f"{tables} tables locked against writes"}

    def undo(self, run: Run) -> None:
        release(run)

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        # The locks belonged to a session of the process that stopped; they are gone with it.
        return False


class _Guard(threading.Thread):
    """While the fence stands, cancels what waits for a table of its own. Ends with the fence."""

    def __init__(self, run: Run, fence: int) -> None:
        super().__init__(name="lastgood-fence", daemon=True)
        self._run = run
        self._fence = fence

    def run(self) -> None:
        run, over = self._run, self._run.fence_over
        told: set[int] = set()
        try:
            with run.connected(run.plan.maintenance, "guards the fence of") as connection:
                while not over.wait(POLL_SECONDS):
                    rows = connection.execute(_WAITING_ALONE, [run.plan.live_oid, self._fence]).fetchall()
                    for pid, user, application in rows:
                        with suppress(psycopg.errors.InsufficientPrivilege):
                            connection.execute("SELECT pg_cancel_backend(%s)", [pid])
                        if pid not in told:
                            told.add(pid)
                            run.emit(
                                Caution(
                                    f'cancelled a command of session {pid} of "{user}" ({application or "no name"}): '
                                    "it wanted a table for itself, and readers would have waited behind it"
                                )
                            )
        except psycopg.Error as error:
            if not over.is_set() and not run.cancelled():
                run.emit(Caution(f"nobody keeps the way free for readers any more: {str(error).strip()}"))


def release(run: Run) -> None:
    """Lets writers go on. May be called twice, and from another thread."""
    run.fence_over.set()
    connection, run.fence_connection = run.fence_connection, None
    if connection is not None:
        with suppress(psycopg.Error):  # a session that is gone holds no locks
            connection.close()


def verify(run: Run) -> None:
    """Just before the swap: the locks were held all the time, by the same session, on every table there is.

    A fence that broke does not stop the run (what was written lies in the kept database), but it is said.
    """
    proof, connection = run.findings.fence, run.fence_connection
    if proof is None or proof.kind != "table locks":
        return
    try:
        if connection is None:
            raise psycopg.OperationalError("the fence's session is gone")
        (held,) = connection.execute(_HELD).fetchone() or (0,)
        there = len(connection.execute(_TABLES).fetchall())
        (large_objects,) = connection.execute(_LARGE_OBJECTS).fetchone() or (True,)
    except psycopg.Error as error:
        proof.proof = f"the session that held the locks was lost: {error}"
        run.emit(
            Caution("the fence was lost during the run: writes may have been made since; the kept database has them")
        )
        return
    seconds = time.monotonic() - (proof.began or 0.0)
    proof.proof = f"SHARE locks on {held} of {there} tables, held by one session for {seconds:.1f} s until the swap"
    if large_objects:
        proof.proof += "; large objects can't be locked"
        run.emit(
            Caution("large objects may have been written behind the fence; the kept database has what was written")
        )
    if held == there:
        proof.writes_after = None if large_objects else 0
    else:
        run.emit(Caution(f"{there - held} tables were created behind the fence; the kept database has them"))


def _lock_all(run: Run, connection: Connection) -> int:
    """Takes every lock, or says who is in the way. Write transactions that outlast the patience are ended: they had
    not committed, so nothing that was promised to anybody is lost."""
    for attempt in range(1, TRIES + 1):
        if run.cancelled():
            raise Interrupted("interrupted while the live database was fenced")
        connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        try:
            tables = connection.execute(_TABLES).fetchall()
            for start in range(0, len(tables), 500):
                names = [sql.Identifier(*name) for name in tables[start : start + 500]]
                connection.execute(sql.SQL("LOCK TABLE ONLY {} IN SHARE MODE").format(sql.SQL(", ONLY ").join(names)))
            return len(tables)
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected, psycopg.errors.UndefinedTable):
            connection.rollback()
            if attempt > 1:
                _end_writers(run, connection.info.backend_pid)
    raise Failed(
        f'cannot keep writers out of "{run.plan.live}": some sessions hold locks and could not be ended',
        hint="Run the rollback with --fence at-swap, or end those sessions first: lastgood status shows them.",
    )


def _end_writers(run: Run, own: int) -> None:
    rows = run.maintenance.execute(
        "SELECT DISTINCT a.pid, a.usename, a.application_name FROM pg_catalog.pg_locks l"
        " JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid"
        " WHERE l.database = %s AND l.locktype = 'relation' AND l.granted AND l.mode = ANY (%s) AND a.pid <> %s"
        " AND a.backend_type = 'client backend' AND l.relation >= 16384",
        [run.plan.live_oid, list(WRITING), own],
    ).fetchall()
    for pid, user, application in rows:
        with suppress(psycopg.errors.InsufficientPrivilege):
            run.maintenance.execute("SELECT pg_terminate_backend(%s)", [pid])
            run.emit(
                Caution(
                    f'ended session {pid} of "{user}" ({application or "no name"}): its write transaction stayed open'
                )
            )
