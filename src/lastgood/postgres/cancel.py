"""Ending what the server works on for us when a person wants to stop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from lastgood.postgres.server import Connection, Target


@contextmanager
def cancelled_with(stop: threading.Event, target: Target, name: str) -> Iterator[Connection]:
    """A session; what it executes is cancelled when the event is set."""
    ended = threading.Event()
    with target.connect(application_name=name) as connection:

        def wait() -> None:
            while not ended.wait(0.1):
                if stop.is_set():
                    with suppress(psycopg.Error):  # it may have just ended by itself
                        connection.cancel_safe(timeout=5)

        thread = threading.Thread(target=wait, name="lastgood-cancel", daemon=True)
        thread.start()
        try:
            yield connection
        finally:
            ended.set()
            thread.join()
