"""Tasks, done by several connections that all see one snapshot of the database."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic

import psycopg
from psycopg import IsolationLevel, sql

from lastgood.command.validate import troubles
from lastgood.command.validate.budget import Planned
from lastgood.command.validate.look import Look, OutOfTime
from lastgood.command.validate.rule import Found, Mode, Task
from lastgood.command.validate.verdict import RuleResult, result
from lastgood.errors import Interrupted
from lastgood.events import Emit, Progress
from lastgood.postgres.capacity import Capacity, capacity
from lastgood.postgres.server import SESSION, Connection, Target, set_where_possible

STAGE = "validate"
MOST_MEMORY = 64 << 20
# A single rule of the user's may take no more than this share of the time that is left to --quick.
OWN_SHARE = 0.5
_NOT_FOUND = ("42P01", "42883", "42703", "42704", "3F000")
# A lock is waited for this long; who holds one is not hindered by us, and neither is who waits behind us.
LOCK_TIMEOUT = "2s"
# Set for the transaction only: behind a pooler the session is another client's a moment later.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("lock_timeout", LOCK_TIMEOUT),
    ("statement_timeout", "0"),
    # Rows hidden by row level security: an error, not a smaller number.
    ("row_security", "off"),
    ("max_parallel_workers_per_gather", "0"),
    # The planner must not take the constraints for granted that are looked at.
    ("constraint_exclusion", "off"),
    ("synchronize_seqscans", "off"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
)


class Lost(Exception):
    """The server ended a connection, or the whole server went away, while ``rule`` was looked at; from its error."""

    def __init__(self, rule: str, error: psycopg.Error) -> None:
        super().__init__(rule)
        self.rule = rule
        self.error = error


@dataclass
class Snapshot:
    """Connections inside one snapshot. ``path`` is the search path that a session of this role has by itself."""

    target: Target
    first: Connection
    capacity: Capacity
    path: str
    _stack: ExitStack

    def share(self, wanted: int) -> list[Connection]:
        """At most ``wanted`` connections with the same snapshot, the first one included: fewer where the server has no
        room, or where a pooler leads to several servers."""
        found = [self.first]
        most = min(wanted, self.capacity.jobs)
        if most < 2:
            return found
        (name,) = self.first.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone() or ("",)
        for number in range(2, most + 1):
            try:
                connection = self._stack.enter_context(_connected(self.target, f"lastgood validate {number}"))
                _begin(connection)
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
                _settle(connection, self.capacity)
            except psycopg.Error:
                # No room for another one, or another server behind the same address: those we have will do.
                break
            found.append(connection)
        return found


@contextmanager
def snapshot(target: Target, jobs: int | None = None) -> Iterator[Snapshot]:
    """A read-only snapshot of the database. Raises psycopg.Error."""
    with ExitStack() as stack:
        first = stack.enter_context(_connected(target, "lastgood validate"))
        path = first.execute("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'").fetchone()
        room = capacity(first, jobs=jobs, into=first.info.dbname, others=0)
        _begin(first)
        first.execute("SELECT")  # here the transaction begins, and its snapshot is taken
        _settle(first, room)
        yield Snapshot(target, first, room, path[0] if path is not None else "", stack)


@contextmanager
def _connected(target: Target, name: str) -> Iterator[Connection]:
    """A connection that is just closed at the end: nothing of its transaction is to be kept."""
    connection = target.connect_unchanged(application_name=name)
    connection.prepare_threshold = None  # each query is another one, and a pooler may not know them
    try:
        yield connection
    finally:
        connection.close()


def _begin(connection: Connection) -> None:
    """A transaction begins with the next command, and takes its snapshot then."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    connection.autocommit = False


def _settle(connection: Connection, room: Capacity) -> None:
    memory = max(4 << 20, min(MOST_MEMORY, room.maintenance_work_mem))
    wanted = {**dict(SESSION), **dict(SETTINGS), "work_mem": f"{memory >> 10}kB"}
    set_where_possible(connection, [*wanted.items()], local=True)


class Crew:
    """Does tasks in their order on several connections."""

    def __init__(
        self,
        connections: Sequence[Connection],
        path: str,
        mode: Mode,
        deadline: float | None,
        emit: Emit,
        cancelled: Callable[[], bool],
    ) -> None:
        self._connections = connections
        self._path = path
        self._share = OWN_SHARE if mode == "quick" else 1.0
        self._deadline = deadline
        self._emit = emit
        self._cancelled = cancelled
        self._lock = threading.Lock()
        self._next = 0
        self._done = 0
        self._stopped = threading.Event()
        self._failed: BaseException | None = None
        self._results: list[tuple[RuleResult, ...]] = []

    def run(self, planned: Sequence[Planned]) -> list[tuple[RuleResult, ...]]:
        """The results of each task, in the tasks' order. Raises Interrupted, Lost."""
        self._results = [() for _ in planned]
        threads = [
            threading.Thread(target=self._work, args=[each, planned], name="lastgood-validate", daemon=True)
            for each in self._connections
        ]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.1)  # signals are handled in between
                    if self._cancelled():
                        self._stop(Interrupted("interrupted while the database was validated"))
                    if self._stopped.is_set():
                        self._cancel()
        finally:
            self._stop(None)
            for thread in threads:
                while thread.is_alive():
                    self._cancel()
                    thread.join(0.1)
        if self._failed is not None:
            raise self._failed
        return self._results

    def _stop(self, error: BaseException | None) -> None:
        with self._lock:
            self._failed = self._failed or error
        self._stopped.set()

    def _cancel(self) -> None:
        """Ends what the server does for us; again and again, because between two queries there is nothing to cancel."""
        for connection in self._connections:
            with suppress(psycopg.Error):  # it may have just ended by itself
                connection.cancel_safe(timeout=5)

    def _work(self, connection: Connection, planned: Sequence[Planned]) -> None:
        look = Look(connection, self._deadline, self._stopped.is_set, self._path)
        total = sum(len(each.task.rules) for each in planned)
        while not self._stopped.is_set():
            with self._lock:
                number = self._next
                self._next += 1
                done = self._done
            if number >= len(planned):
                return
            each = planned[number]
            self._emit(Progress(STAGE, done, total, "rules", detail=each.task.rules[0].name))
            began = monotonic()
            try:
                found = self._answers(each.task, each.sample, look)
            except psycopg.Error as error:
                self._stop(Lost(each.task.rules[0].name, error))
                return
            except BaseException as error:
                self._stop(error)
                return
            seconds = monotonic() - began
            self._results[number] = tuple(
                result(rule, one, seconds) for rule, one in zip(each.task.rules, found, strict=True)
            )
            with self._lock:
                self._done += len(each.task.rules)
                done = self._done
            self._emit(Progress(STAGE, done, total, "rules", detail=each.task.rules[0].name))

    def _answers(self, task: Task, sample: float | None, look: Look, path: str | None = None) -> Sequence[Found]:
        own = any(rule.weight is not None for rule in task.rules)
        try:
            with look.task(self._share if own else 1.0):
                if path is not None:
                    look.rows(sql.SQL("SELECT pg_catalog.set_config('search_path', %s, true)"), [path])
                return task.run(look, sample)
        except OutOfTime:
            return [troubles.OUT_OF_TIME for _ in task.rules]
        except psycopg.Error as error:
            if look.connection.closed or self._stopped.is_set():
                raise
            if error.sqlstate not in ("57014", "55P03", "40001") and task.alone:
                return [found for each in task.alone for found in self._answers(each, sample, look)]
            if error.sqlstate in _NOT_FOUND and path is None and look.path:
                # A function in a CHECK or in an index that counts on the search path of the application.
                return self._answers(task, sample, look, look.path)
            with look.connection.transaction(force_rollback=True):
                trouble = troubles.skipped(look.connection, error, task.relations, timed=self._deadline is not None)
            return [trouble or _refused(error) for _ in task.rules]


def _refused(error: psycopg.Error) -> Found:
    """Anything else speaks against the data, as far as anybody knows."""
    state = f" [SQLSTATE {error.sqlstate}]" if error.sqlstate else ""
    return Found(
        said=f"cannot be looked at: {error.diag.message_primary or error}{state}",
        hint="The server's log of this minute may say more.",
        failed=True,
    )
