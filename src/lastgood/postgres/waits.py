"""A time limit for statements that may wait for other sessions of the server for ever, and the names of those sessions.

DROP DATABASE waits until every process of the server has absorbed a barrier. A commit that waits for a synchronous
standby does not do so (PostgreSQL 15 to 18), and no timeout of ours ends that commit. A session that has changed a
database in an open transaction holds locks on it. ``bounded`` monitors such a statement from a second session, and
cancels it when it has waited too long."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import LiteralString

import psycopg

from lastgood.postgres.server import Connection

# Monitoring begins after this time: nearly all statements end sooner, and a session has a cost.
UNWATCHED_SECONDS = 1.0
POLL_SECONDS = 0.25
# The limit for a statement that makes progress: it removes files, or writes a checkpoint.
LONGEST_SECONDS = 900.0
SHOWN = 3
QUERY_CHARACTERS = 80
BARRIER = "ProcSignalBarrier"

_STATE = """
SELECT wait_event_type, wait_event, pg_catalog.pg_blocking_pids(pid)
FROM pg_catalog.pg_stat_activity WHERE pid = %s AND state = 'active'
"""
_COLUMNS: LiteralString = """
SELECT pid, usename, application_name, datname, wait_event, query
FROM pg_catalog.pg_stat_activity WHERE {} ORDER BY query_start
"""
# A process that waits for a synchronous standby holds off interrupts, including the barrier's.
_WAITING_FOR_STANDBY = _COLUMNS.replace("{}", "wait_event = 'SyncRep'")
_BY_PID = _COLUMNS.replace("{}", "pid = ANY (%s)")
_LITERAL = re.compile(r"'(?:[^']|'')*'?|\$(\w*)\$.*?(?:\$\1\$|\Z)", re.DOTALL)


class WaitLimit:
    """The time limit of a statement's wait for other sessions, in seconds; the command line sets it from
    lastgood.toml."""

    seconds = 15.0


class TimedOut(Exception):
    """A statement was cancelled. The text names the sessions that it waited for; ending ``pids`` would let it
    continue."""

    def __init__(self, text: str, pids: tuple[int, ...], standby: bool) -> None:
        super().__init__(text)
        self.pids = pids
        self.standby = standby

    @property
    def hint(self) -> str:
        """The hint: the remedy that lets the statement continue."""
        restart = "Restart the synchronous standby" if self.standby else ""
        terminate = f"terminate that session: SELECT pg_terminate_backend({self.pids[0]})" if self.pids else ""
        text = ", or ".join(part for part in (restart, terminate) if part) or "Find the cause of the server's load"
        return f"{text[0].upper()}{text[1:]}."


@contextmanager
def bounded(connection: Connection) -> Iterator[StatementWatch]:
    """Cancel the statement of ``connection`` in the block when it has waited ``WaitLimit.seconds`` for other sessions.
    Raises TimedOut then; a caller that handles the server's error reads ``reason`` of the StatementWatch."""
    watch = StatementWatch(connection)
    watch.start()
    try:
        yield watch
    except psycopg.errors.QueryCanceled as error:
        watch.end()
        if watch.reason is None:
            raise
        raise watch.reason from error
    finally:
        watch.end()


class StatementWatch(threading.Thread):
    """Monitor one session from another; ``reason`` is why its statement was cancelled, None if it was not."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(name="lastgood-waits", daemon=True)
        self._watched = connection
        self._pid = connection.info.backend_pid
        self._over = threading.Event()
        self.reason: TimedOut | None = None

    def end(self) -> None:
        """Stop monitoring: the statement has ended."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Poll until the end, or until the limit is reached."""
        began = time.monotonic()
        if self._over.wait(UNWATCHED_SECONDS):
            return
        try:
            with _second_session(self._watched) as second:
                self._monitor(second, began)
        except psycopg.Error:
            # No free connection for a second session, or the server is gone: then only a time limit is left.
            if not self._over.wait(max(0.0, 4 * WaitLimit.seconds - (time.monotonic() - began))):
                self.reason = TimedOut(f"it exceeded its time limit of {4 * WaitLimit.seconds:g} s", (), standby=False)
                with suppress(psycopg.Error):
                    self._watched.cancel_safe(timeout=5)

    def _monitor(self, second: Connection, began: float) -> None:
        progress = began  # the last poll at which it did not wait for another session
        while not self._over.wait(POLL_SECONDS):
            row = second.execute(_STATE, [self._pid]).fetchone()
            kind, event, blocking = row if row is not None else (None, None, [])
            now = time.monotonic()
            if not blocking and event != BARRIER:
                progress = now
            if now - progress >= WaitLimit.seconds:
                self.reason = _timed_out(second, event == BARRIER, blocking, now - progress)
            elif now - began >= LONGEST_SECONDS:
                what = f"{kind}: {event}" if event else "no wait event"
                self.reason = TimedOut(
                    f"it exceeded its time limit of {LONGEST_SECONDS:g} s ({what})", (), standby=False
                )
            if self.reason is not None and not self._over.is_set():
                second.execute("SELECT pg_catalog.pg_cancel_backend(%s)", [self._pid])
                return


def _timed_out(second: Connection, barrier: bool, blocking: list[int], waited: float) -> TimedOut:
    rows = (
        second.execute(_WAITING_FOR_STANDBY).fetchall() if barrier else second.execute(_BY_PID, [blocking]).fetchall()
    )
    sessions = "; ".join(_session_text(*row) for row in rows[:SHOWN]) + (
        f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    )
    if not rows:
        sessions = "a server process that does not respond and is not shown in pg_stat_activity"
    standby = any(row[4] == "SyncRep" for row in rows)
    return TimedOut(f"it waited {waited:.0f} s for {sessions}", tuple(row[0] for row in rows), standby)


def _session_text(
    pid: int, user: str | None, application: str | None, database: str | None, event: str | None, query: str | None
) -> str:
    """A session in words, without the literals of its query: they may be rows or passwords."""
    session = f"process {pid}" + (f' of "{user}"' if user else "")
    parts = [f'"{application}"' if application else "", f'in "{database}"' if database else ""]
    session += f" ({', '.join(filter(None, parts))})" if any(parts) else ""
    if event == "SyncRep":
        session += ", waiting for a synchronous standby (SyncRep)"
    elif event:
        session += f", waiting ({event})"
    text = " ".join(_LITERAL.sub("'…'", query or "").split())
    text = text if len(text) <= QUERY_CHARACTERS else f"{text[:QUERY_CHARACTERS]} …"
    return session + (f": {text}" if text else "")


def _second_session(connection: Connection) -> Connection:
    """A second session with the parameters of ``connection``. Raises psycopg.OperationalError."""
    info = connection.info
    keywords = {**info.get_parameters(), "application_name": "lastgood watches waits", "connect_timeout": "5"}
    if info.password:
        keywords["password"] = info.password
    second = psycopg.connect(**keywords, autocommit=True)  # type: ignore[arg-type]  # libpq's own keywords
    second.execute("SET search_path = ''")  # that of the database may lead to operators of others
    return second
