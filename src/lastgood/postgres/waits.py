"""A limit for statements that may wait for other sessions of the server for ever, and the names of those sessions.

DROP DATABASE waits until every process of the server has answered a barrier. A commit that waits for a synchronous
standby does not answer (PostgreSQL 15 to 18), and no timeout of ours ends that commit. Locks on a database are held by
the session that has changed it in an open transaction. ``bounded`` watches such a statement from a second session, and
cancels it when it has waited too long.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import LiteralString

import psycopg

from lastgood.postgres.server import Connection

# A statement is not watched before: nearly all end sooner, and a session costs something.
UNWATCHED_SECONDS = 1.0
POLL_SECONDS = 0.25
# For work that makes progress by itself: files are removed, a checkpoint is written.
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
# A process that waits for a synchronous standby holds off interrupts, the barrier's too.
_DEAF = _COLUMNS.replace("{}", "wait_event = 'SyncRep'")
_THESE = _COLUMNS.replace("{}", "pid = ANY (%s)")
_LITERAL = re.compile(r"'(?:[^']|'')*'?|\$(\w*)\$.*?(?:\$\1\$|\Z)", re.DOTALL)


class Limit:
    """How long a statement may wait for other sessions, in seconds; the command line sets it from lastgood.toml."""

    seconds = 15.0


class TimedOut(Exception):
    """A statement was cancelled. The text names what it waited for; ending ``pids`` would let it continue."""

    def __init__(self, text: str, pids: tuple[int, ...], standby: bool) -> None:
        super().__init__(text)
        self.pids = pids
        self.standby = standby

    @property
    def hint(self) -> str:
        """The hint: what lets the statement continue."""
        back = "Bring the synchronous standby back" if self.standby else ""
        end = f"end that session: SELECT pg_terminate_backend({self.pids[0]})" if self.pids else ""
        said = ", or ".join(part for part in (back, end) if part) or "Find what keeps the server busy"
        return f"{said[0].upper()}{said[1:]}."


@contextmanager
def bounded(connection: Connection) -> Iterator[Watch]:
    """Cancel what ``connection`` executes in the block when it has waited for other sessions for ``Limit.seconds``.
    Raises TimedOut then; a caller that handles the server's error reads ``found`` of the Watch."""
    watch = Watch(connection)
    watch.start()
    try:
        yield watch
    except psycopg.errors.QueryCanceled as error:
        watch.end()
        if watch.found is None:
            raise
        raise watch.found from error
    finally:
        watch.end()


class Watch(threading.Thread):
    """Watch one session from another; ``found`` is why it was cancelled, None when it was not."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(name="lastgood-waits", daemon=True)
        self._watched = connection
        self._pid = connection.info.backend_pid
        self._over = threading.Event()
        self.found: TimedOut | None = None

    def end(self) -> None:
        """The statement has ended."""
        self._over.set()
        self.join()

    def run(self) -> None:
        """Poll until the end, or until the limit is reached."""
        began = time.monotonic()
        if self._over.wait(UNWATCHED_SECONDS):
            return
        try:
            with _beside(self._watched) as second:
                self._look(second, began)
        except psycopg.Error:
            # No room for a second session, or the server is gone: then time alone decides.
            if not self._over.wait(max(0.0, 4 * Limit.seconds - (time.monotonic() - began))):
                self.found = TimedOut(f"it did not end within {4 * Limit.seconds:g} s", (), standby=False)
                with suppress(psycopg.Error):
                    self._watched.cancel_safe(timeout=5)

    def _look(self, second: Connection, began: float) -> None:
        progress = began  # the last moment at which it did not wait for anybody, as far as was seen
        while not self._over.wait(POLL_SECONDS):
            row = second.execute(_STATE, [self._pid]).fetchone()
            kind, event, blocking = row if row is not None else (None, None, [])
            now = time.monotonic()
            if not blocking and event != BARRIER:
                progress = now
            if now - progress >= Limit.seconds:
                self.found = _timed_out(second, event == BARRIER, blocking, now - progress)
            elif now - began >= LONGEST_SECONDS:
                what = f"{kind}: {event}" if event else "no wait is shown"
                self.found = TimedOut(f"it did not end within {LONGEST_SECONDS:g} s ({what})", (), standby=False)
            if self.found is not None and not self._over.is_set():
                second.execute("SELECT pg_catalog.pg_cancel_backend(%s)", [self._pid])
                return


def _timed_out(second: Connection, barrier: bool, blocking: list[int], waited: float) -> TimedOut:
    rows = second.execute(_DEAF).fetchall() if barrier else second.execute(_THESE, [blocking]).fetchall()
    for_whom = "; ".join(_words(*row) for row in rows[:SHOWN]) + (
        f"; and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    )
    if not rows:
        for_whom = "a server process that does not answer; pg_stat_activity does not show which"
    standby = any(row[4] == "SyncRep" for row in rows)
    return TimedOut(f"it waited {waited:.0f} s for {for_whom}", tuple(row[0] for row in rows), standby)


def _words(
    pid: int, user: str | None, application: str | None, database: str | None, event: str | None, query: str | None
) -> str:
    """A session in words. Literals of its query are left out: they may be rows or passwords."""
    who = f"process {pid}" + (f' of "{user}"' if user else "")
    parts = [f'"{application}"' if application else "", f'in "{database}"' if database else ""]
    who += f" ({', '.join(filter(None, parts))})" if any(parts) else ""
    if event == "SyncRep":
        who += ", which waits for a synchronous standby (SyncRep)"
    elif event:
        who += f", which waits ({event})"
    text = " ".join(_LITERAL.sub("'…'", query or "").split())
    text = text if len(text) <= QUERY_CHARACTERS else f"{text[:QUERY_CHARACTERS]} …"
    return who + (f": {text}" if text else "")


def _beside(connection: Connection) -> Connection:
    """A second session like ``connection``'s, at the same database. Raises psycopg.OperationalError."""
    info = connection.info
    keywords = {**info.get_parameters(), "application_name": "lastgood watches waits", "connect_timeout": "5"}
    if info.password:
        keywords["password"] = info.password
    return psycopg.connect(**keywords, autocommit=True)  # type: ignore[arg-type]  # libpq's own words
