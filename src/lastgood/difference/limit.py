"""The reasons to stop a comparison: the end of its time, an interrupt, an error."""

from __future__ import annotations

import threading
import time

import psycopg

from lastgood.context import Context
from lastgood.errors import Interrupted
from lastgood.postgres.errors import message_of
from lastgood.text.units import duration


class Limit:
    """The reasons to stop: a cancelled context, the end of the time, an error in another thread."""

    def __init__(self, seconds: float | None, context: Context) -> None:
        self.context = context
        self.seconds = seconds
        self._until = None if seconds is None else time.monotonic() + seconds
        self.failed = threading.Event()

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self._until is not None and time.monotonic() >= self._until

    def stop(self) -> bool:
        """Whether to stop reading."""
        return self.failed.is_set() or self.over or self.context.cancelled()

    def without_end(self) -> None:
        """Remove the time limit: what is asked for afterwards has its own time."""
        self._until = None

    @property
    def why(self) -> str:
        """The reason for a table that was not compared."""
        return f"time limit of {duration(self.seconds or 0)} reached"


def is_interrupt(error: BaseException) -> bool:
    """Whether an error is the end of a comparison that was stopped."""
    if isinstance(error, Interrupted):
        return True
    import duckdb  # only here: digests alone do not need it

    return isinstance(error, duckdb.InterruptException)


def words_of(error: psycopg.Error) -> str:
    """Return an error of the server on one line, for a table that was not compared."""
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "another session has locked it"
    return message_of(error)
