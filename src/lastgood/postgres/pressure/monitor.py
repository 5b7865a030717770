"""Monitor the server during a load, and slow down or stop the load before production is at risk."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

import psycopg

from lastgood.errors import Failed
from lastgood.events import Caution, Emit, Note
from lastgood.postgres.errors import message_of
from lastgood.postgres.pressure.rules import Limits, StrainJudge, StrainVerdict
from lastgood.postgres.pressure.wal import Wal, read_wal
from lastgood.postgres.server import Connection
from lastgood.text import units

INTERVAL_SECONDS = 1.0
POLL_SECONDS = 0.2
# The burst that a rate allows: the amount of this time.
BURST_SECONDS = 0.1

Cancelled = Callable[[], bool]


class Pressure:
    """A monitor with a connection and a thread of its own, for the length of a ``with`` block.

    The workers of a load call ``wait_if_needed`` between pieces of work and ``throttle`` with the size of each; both
    are cheap without pressure, and may be called from any thread. ``rate``: bytes per second of all workers together.
    """

    def __init__(
        self,
        connect: Callable[[], Connection],
        limits: Limits,
        emit: Emit,
        *,
        rate: int | None = None,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._connect = connect
        self._emit = emit
        self._interval = interval
        self._judge = StrainJudge(limits)
        self._budget = _Budget(rate) if rate else None
        self._connection: Connection | None = None
        self._go = threading.Event()
        self._go.set()
        self._stop: Failed | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lastgood-pressure", daemon=True)
        self._blind = False
        self._since = 0.0
        self._waited = 0.0

    def __enter__(self) -> Pressure:
        """Check the server before the load. Raises psycopg.Error when it cannot be queried."""
        self._connection = self._connect()
        try:
            self._apply(self._judge.assess(read_wal(self._connection), time.monotonic()))
        except BaseException:
            self._connection.close()
            raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._go.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def wait_if_needed(self, cancelled: Cancelled) -> None:
        """Return at once without pressure; otherwise when the server has caught up, or ``cancelled``.

        Raises Failed when continuing would put production at risk.
        """
        while not self._go.wait(POLL_SECONDS):
            if cancelled():
                return
        if self._stop is not None:
            # An error of its own for each worker: a traceback belongs to one thread.
            raise Failed(self._stop.message, hint=self._stop.hint)

    def throttle(self, count: int, cancelled: Cancelled) -> None:
        """Take ``count`` bytes from the rate that all workers share, waiting if necessary."""
        if self._budget is None:
            return
        until = self._budget.take(count, time.monotonic())
        while (remaining := until - time.monotonic()) > 0 and not cancelled():
            if self._over.wait(min(remaining, POLL_SECONDS)):
                return

    @property
    def waited(self) -> float:
        """The seconds for which the load was paused so far."""
        return self._waited + (0.0 if self._go.is_set() else time.monotonic() - self._since)

    @property
    def slowed(self) -> bool:
        """Whether the load was slower than possible: paused, or limited by a rate."""
        return self._budget is not None or self.waited > 0

    def check(self, current: Wal | None = None) -> None:
        """Check the server now, as the thread does at each interval. ``current``: a given state, instead of a query.

        A server that cannot be queried does not stop the load: the workers meet its errors themselves.
        """
        try:
            if current is None:
                if self._connection is None or self._connection.closed:
                    self._connection = self._connect()
                current = read_wal(self._connection)
        except psycopg.Error as error:
            if self._connection is not None:
                self._connection.close()
            self._go.set()
            if not self._blind and not self._over.is_set():
                self._blind = True
                self._emit(Caution(f"cannot monitor the server for now: {message_of(error)}"))
            return
        self._blind = False
        self._apply(self._judge.assess(current, time.monotonic()))

    def _watch(self) -> None:
        while not self._over.wait(self._interval) and self._stop is None:
            self.check()

    def _apply(self, verdict: StrainVerdict) -> None:
        for event in verdict.events:
            self._emit(event)
        now = time.monotonic()
        if verdict.stop is not None:
            self._stop = verdict.stop
        if verdict.wait and self._go.is_set():
            self._since = now
            self._go.clear()
            limit = units.size(self._judge.limits.max_wal_lag)
            self._emit(Caution(f"loading is paused: {verdict.wait}; it may add up to {limit}"))
        elif not verdict.wait and not self._go.is_set():
            self._waited += now - self._since
            self._go.set()
            if verdict.stop is None:
                self._emit(Note(f"loading continues after {now - self._since:.0f} s"))


class _Budget:
    """A token bucket: ``take`` returns the time at which the last byte may be loaded."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._spent = 0.0
        self._lock = threading.Lock()

    def take(self, count: int, now: float) -> float:
        with self._lock:
            self._spent = max(self._spent, now - BURST_SECONDS) + count / self._rate
            return self._spent
