"""Monitor for a session with long-running work: its progress, the session that blocks it, and its cancellation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from lastgood.postgres.server import Connection, Target

POLL_EVERY = 0.25
ASK_EVERY = 4  # polls

# The progress of a session that builds an index, and its blocker: an older transaction, or the holder of a lock.
WORKING = """
SELECT p.phase, p.blocks_done, p.blocks_total, w.pid, w.usename, w.application_name, w.xact_start
FROM pg_catalog.pg_stat_activity a
LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid = a.pid
LEFT JOIN pg_catalog.pg_stat_activity w ON w.pid = coalesce(
    nullif(p.current_locker_pid, 0),
    CASE WHEN a.wait_event_type = 'Lock' THEN (pg_catalog.pg_blocking_pids(a.pid))[1] END)
WHERE a.pid = %s
"""


def activity(connection: Connection, pid: int) -> str:
    """The activity of the server process ``pid``, as a suffix for a name; empty if it is unknown."""
    row = connection.execute(WORKING, [pid]).fetchone()
    if row is None:
        return ""
    phase, done, total, waits_for, user, application, since = row
    if waits_for is not None:
        who = f'process {waits_for} of "{user}"' + (f" ({application})" if application else "")
        return f": waiting for {who}" + (f", in a transaction since {since:%H:%M:%S %Z}" if since else "")
    if total:
        return f": {phase}, {100 * done // total} %"
    return f": {phase}" if phase else ""


class ActivityWatch:
    """A thread that reports ``activity`` every second, and cancels the session's command while ``cancelled`` is
    true."""

    def __init__(
        self,
        target: Target,
        run: str,
        connection: Connection,
        cancelled: Callable[[], bool],
        report: Callable[[str], None],
    ) -> None:
        self._target = target
        self._run = run
        self._watched = connection
        self._cancelled = cancelled
        self._report = report
        self._own: Connection | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="lastgood-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def follow(self, connection: Connection) -> None:
        """Monitor ``connection`` from now on: the earlier session was lost."""
        self._watched = connection

    def stop(self) -> None:
        """Stop the thread."""
        self._over.set()
        self._thread.join()
        if self._own is not None:
            self._own.close()

    def _poll(self) -> None:
        polls = 0
        while not self._over.wait(POLL_EVERY):
            polls += 1
            # The work itself notices a lost connection, of the monitor or of the session.
            with suppress(psycopg.Error):
                if self._cancelled():
                    self._watched.cancel_safe(timeout=5)
                elif polls % ASK_EVERY == 0 and (text := self._ask()):
                    self._report(text)

    def _ask(self) -> str:
        if self._watched.closed:
            return ""
        if self._own is None or self._own.closed:
            self._own = self._target.connect(application_name=f"lastgood watch {self._run}")
        return activity(self._own, self._watched.info.backend_pid)
