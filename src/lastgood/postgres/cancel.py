"""Ending what the server works on for us when a person wants to stop."""

from __future__ import annotations

import threading

from lastgood.postgres.server import Connection


def cancel_when(stop: threading.Event, connection: Connection) -> threading.Thread:
    """Cancels what the connection executes when the event is set; ends with it."""

    def wait() -> None:
        stop.wait()
        if not connection.closed:
            connection.cancel_safe(timeout=5)

    thread = threading.Thread(target=wait, name="lastgood-cancel", daemon=True)
    thread.start()
    return thread
