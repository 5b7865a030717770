"""Cancel a statement on the server when the operator interrupts the command."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg

from lastgood.postgres.server import Connection, Target


@contextmanager
def cancelled_with(stop: threading.Event, target: Target, name: str) -> Iterator[Connection]:
    """A session whose running statement is cancelled when the event is set."""
    ended = threading.Event()
    with target.connect(application_name=name) as connection:

        def wait() -> None:
            while not ended.wait(0.1):
                if stop.is_set():
                    with suppress(psycopg.Error):  # the statement may just have ended
                        connection.cancel_safe(timeout=5)

        thread = threading.Thread(target=wait, name="lastgood-cancel", daemon=True)
        thread.start()
        try:
            yield connection
        finally:
            ended.set()
            thread.join()
