"""An application that keeps working while its database is broken, rolled back and swapped.

Readers and writers run in threads as the role ``crm_app``. They reconnect when their session is terminated, and record
how long each request took from the user's point of view. Each write has a reference of its own. A ledger has the
acknowledged ones, so that a test can find out later which database each of them is in.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType

import psycopg
from psycopg import conninfo, sql

from demo import crm
from lastgood.postgres.server import Connection, Target

# Errors that a well-written application retries: the connection class, "no such database" at login (it is just being
# renamed), shutdown and "too many", and transactions that the server aborted in favour of another.
_AGAIN = ("08", "57", "53", "40", "3D000", "55000")
_PAUSE = 0.01
_GRACE = 1.0


@dataclass(slots=True)
class Lap:
    """The figures since the lap began; times in seconds, as a user waits, including reconnecting and retrying.

    A read has failed when it got an error that a retry does not cure, no answer within the patience, or an empty answer
    where there must be rows.
    """

    reads: int = 0
    failed_reads: int = 0
    longest_read: float = 0.0
    writes: int = 0
    failed_writes: int = 0
    longest_write: float = 0.0
    reconnects: int = 0
    errors: Counter[str] = field(default_factory=Counter)


class Application:
    """``with Application(target, organizations=4000, contacts=40000) as app: …``, then ``app.lap()``, ``app.ledger``.

    ``target`` names the live database; the role is the application's own. ``patience``: how long a request may take
    before its user gives up, in seconds. ``think``: the pause between two requests of one thread.
    """

    def __init__(
        self,
        target: Target,
        *,
        organizations: int,
        contacts: int,
        readers: int = 4,
        writers: int = 2,
        patience: float = 60.0,
        think: float = 0.01,
    ) -> None:
        self._conninfo = conninfo.make_conninfo(**{**target.keywords, "user": crm.APPLICATION, "connect_timeout": "10"})
        self._organizations = organizations
        self._contacts = contacts
        self._patience = patience
        self._think = think
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._lap = Lap()
        self._acknowledged: list[str] = []
        self._open: set[psycopg.Connection] = set()
        self._threads = [
            threading.Thread(target=self._work, args=(number, work), daemon=True, name=f"crm {number}")
            for number, work in enumerate([self._read] * readers + [self._write] * writers)
        ]

    @property
    def ledger(self) -> tuple[str, ...]:
        """The references of all writes that the server acknowledged, in order."""
        with self._lock:
            return tuple(self._acknowledged)

    def lap(self) -> Lap:
        """The figures since the last call, or the start; a request counts in the lap in which it ends."""
        with self._lock:
            lap, self._lap = self._lap, Lap()
        return lap

    def wait_for_work(self, reads: int, writes: int, seconds: float = 30.0) -> None:
        """Wait until so many more reads and writes have succeeded. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        with self._lock:
            first, written = self._lap, len(self._acknowledged)
            reads += first.reads - first.failed_reads
        while time.monotonic() < deadline:
            with self._lock:
                now = self._lap.reads - self._lap.failed_reads
                if now >= reads and len(self._acknowledged) >= written + writes:
                    return
            self._stop.wait(_PAUSE)
        raise TimeoutError("the application makes no progress")

    def __enter__(self) -> Application:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(_GRACE)
        # A writer may wait for a lock for as long as the server allows; its answer is no longer needed.
        for connection in self._open.copy():
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=_GRACE)
        for thread in self._threads:
            thread.join(self._patience)

    def _work(self, number: int, request: Callable[[psycopg.Connection, random.Random, str], None]) -> None:
        chance = random.Random(number)
        connection: psycopg.Connection | None = None
        serial = itertools.count(1)
        run = uuid.uuid4().hex[:12]
        while not self._stop.is_set():
            reference = f"{run}-{next(serial)}"
            connection = self._serve(connection, chance, request, reference)
            self._stop.wait(self._think)
        if connection is not None:
            connection.close()

    def _serve(
        self,
        connection: psycopg.Connection | None,
        chance: random.Random,
        request: Callable[[psycopg.Connection, random.Random, str], None],
        reference: str,
    ) -> psycopg.Connection | None:
        """Serve one request to its end, over as many connections as it takes; return the last connection."""
        started = time.monotonic()
        while True:
            try:
                if connection is None:
                    connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=None)
                    self._open.add(connection)
                request(connection, chance, reference)
            except (psycopg.Error, LookupError) as error:
                again = isinstance(error, psycopg.Error) and _again(error)
                if connection is not None and (connection.closed or not again):
                    self._open.discard(connection)
                    connection.close()
                    connection = None
                late = time.monotonic() - started > self._patience
                with self._lock:
                    self._lap.reconnects += connection is None
                    self._lap.errors[_short(error)] += 1
                if again and not late and not self._stop.is_set():
                    self._stop.wait(_PAUSE)
                    continue
                if not self._stop.is_set():
                    self._count(request, time.monotonic() - started, failed=True)
                return connection
            self._count(request, time.monotonic() - started, failed=False, reference=reference)
            return connection

    def _count(self, request: object, seconds: float, *, failed: bool, reference: str = "") -> None:
        with self._lock:
            lap = self._lap
            if request == self._write:
                lap.writes += 1
                lap.failed_writes += failed
                lap.longest_write = max(lap.longest_write, seconds)
                if not failed:
                    self._acknowledged.append(reference)
            else:
                lap.reads += 1
                lap.failed_reads += failed
                lap.longest_read = max(lap.longest_read, seconds)

    # Names without a schema, and rows behind a policy: both depend on the database's own settings, so a read fails when
    # a swap loses them.
    def _read(self, connection: psycopg.Connection, chance: random.Random, reference: str) -> None:
        if chance.random() < 0.5:
            rows = connection.execute(
                "SELECT name, kind, contacts FROM organization_overview WHERE id = %s",
                [chance.randint(1, self._organizations)],
            ).fetchall()
        else:
            start = chance.randint(1, max(1, self._contacts - 50))
            rows = connection.execute(
                "SELECT id, full_name, email FROM my_contacts WHERE id BETWEEN %s AND %s", [start, start + 50]
            ).fetchall()
        if not rows:
            raise LookupError("an answer without rows")

    def _write(self, connection: psycopg.Connection, chance: random.Random, reference: str) -> None:
        try:
            connection.execute(
                "INSERT INTO activities (contact_id, kind, subject, occurred_at, reference) "
                "VALUES (%s, 'note', 'Called back', now(), %s)",
                [chance.randint(1, self._contacts), reference],
            )
        except psycopg.errors.UniqueViolation:
            # The session ended after the commit and before the answer, and the write was retried: the row exists.
            return


def written(connection: Connection, references: Collection[str], schema: str = "public") -> set[str]:
    """The writes among these that are in a schema of the database of ``connection``."""
    activities = sql.Identifier(schema, "activities")
    query = sql.SQL("SELECT reference FROM {} WHERE reference = ANY(%s)").format(activities)
    rows = connection.execute(query, [list(references)])
    return {row[0] for row in rows}


def _again(error: psycopg.Error) -> bool:
    # libpq gives no SQLSTATE for a failed login; those are OperationalErrors too.
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(_AGAIN)


def _short(error: Exception) -> str:
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    if state is None and isinstance(error, psycopg.OperationalError):
        return "connection lost or refused"
    return f"{state or type(error).__name__}: {str(error).splitlines()[0]}"
