"""Looks over the shoulder of a session that works for long: how far it is, whom it waits for, and whether it is to
stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

import psycopg

from lastgood.postgres.server import Connection, Target

LOOK_EVERY = 0.25
ASK_EVERY = 4  # looks

# What a session does that builds an index, and who keeps it waiting: an older transaction, or the holder of a lock.
WORKING = """
SELECT p.phase, p.blocks_done, p.blocks_total, w.pid, w.usename, w.application_name, w.xact_start
FROM pg_catalog.pg_stat_activity a
LEFT JOIN pg_catalog.pg_stat_progress_create_index p ON p.pid = a.pid
LEFT JOIN pg_catalog.pg_stat_activity w ON w.pid = coalesce(
    nullif(p.current_locker_pid, 0),
    CASE WHEN a.wait_event_type = 'Lock' THEN (pg_catalog.pg_blocking_pids(a.pid))[1] END)
WHERE a.pid = %s
"""


def said(connection: Connection, pid: int) -> str:
    """What the server process ``pid`` is about, to stand behind a name; empty when it does not tell."""
    row = connection.execute(WORKING, [pid]).fetchone()
    if row is None:
        return ""
    phase, done, total, waits_for, user, application, since = row
    if waits_for is not None:
        who = f'process {waits_for} of "{user}"' + (f" ({application})" if application else "")
        return f": waits for {who}" + (f", in a transaction since {since:%H:%M:%S %Z}" if since else "")
    if total:
        return f": {phase}, {100 * done // total} %"
    return f": {phase}" if phase else ""


class Watch:
    """A thread that tells ``said`` every second, and cancels what the session does as long as ``cancelled``."""

    def __init__(
        self,
        target: Target,
        run: str,
        connection: Connection,
        cancelled: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self._target = target
        self._run = run
        self._watched = connection
        self._cancelled = cancelled
        self._tell = tell
        self._own: Connection | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="lastgood-watch", daemon=True)

    def start(self) -> None:
        """From now on it is looked at."""
        self._thread.start()

    def follow(self, connection: Connection) -> None:
        """The session was lost: this one goes on."""
        self._watched = connection

    def stop(self) -> None:
        """Ends the thread."""
        self._over.set()
        self._thread.join()
        if self._own is not None:
            self._own.close()

    def _look(self) -> None:
        looks = 0
        while not self._over.wait(LOOK_EVERY):
            looks += 1
            # A lost connection of the watch, or of what it watches, is for the work itself to notice.
            with suppress(psycopg.Error):
                if self._cancelled():
                    self._watched.cancel_safe(timeout=5)
                elif looks % ASK_EVERY == 0 and (text := self._ask()):
                    self._tell(text)

    def _ask(self) -> str:
        if self._watched.closed:
            return ""
        if self._own is None or self._own.closed:
            self._own = self._target.connect(application_name=f"lastgood watch {self._run}")
        return said(self._own, self._watched.info.backend_pid)
