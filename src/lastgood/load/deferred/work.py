"""Goes through the list of what is left while the application works: slow on purpose, and never in its way.

Nothing here keeps a reader or a writer waiting: CREATE INDEX CONCURRENTLY and VALIDATE CONSTRAINT take SHARE UPDATE
EXCLUSIVE locks, which only DDL and VACUUM of the same table meet. It may be cut off at any moment and begun again by
anyone; an undo ends it by ending its sessions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.dump.deferral import Later
from lastgood.dump.statements import Kind
from lastgood.errors import Failed, Interrupted, LastgoodError, Refused, Stopped
from lastgood.events import Caution, Emit, Note, Progress
from lastgood.load.deferred import remainder
from lastgood.load.deferred.lists import lock_key
from lastgood.load.deferred.watch import Watch
from lastgood.models import Frozen
from lastgood.postgres import errors as server_errors
from lastgood.postgres import statistics
from lastgood.postgres.pressure import Pressure
from lastgood.postgres.server import Connection, Target, quiet_event_triggers
from lastgood.postgres.strain import Limits
from lastgood.text.units import counted

TRIES = 5
# What waits for a lock only at its beginning gives up soon and comes back: nothing is lost by that. CREATE INDEX
# CONCURRENTLY waits at its end, too, for transactions older than itself; giving up there would throw its work away.
SHORT_WAIT = "2s"
# The server is short of something, or damaged: going on would only make it worse.
_GENERAL = ("53", "58", "XX001", "XX002")

_NEVER_ANALYZED = """
SELECT n.nspname, c.relname
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT starts_with(n.nspname, %s)
  AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  AND (coalesce(pg_catalog.pg_stat_get_last_analyze_time(c.oid),
                pg_catalog.pg_stat_get_last_autoanalyze_time(c.oid)) IS NULL
       OR EXISTS (SELECT FROM pg_catalog.pg_stats_ext s
                  WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.inherited IS NULL
                    AND c.reltuples > 0))
  AND NOT {reads_foreign}
ORDER BY c.relpages DESC, 1, 2
"""


_OF_EXPRESSIONS = """
SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid AND i.indexprs IS NOT NULL
WHERE n.nspname = %s AND c.relname = %s
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
"""


class Record(Protocol):
    """Who writes down what is done: the run's journal."""

    def doing(self, step: str) -> None: ...
    def done(self, step: str, **result: Any) -> None: ...


class Finished(Frozen):
    """What was done after the reopening: indexes built, foreign keys validated, tables analyzed. ``gone``: what was
    dropped meanwhile and needed nothing more."""

    indexes: int
    foreign_keys: int
    analyzed: int
    gone: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{counted(self.indexes, 'index', 'indexes')} built, {counted(self.foreign_keys, 'foreign key')} "
            f"validated, {counted(self.analyzed, 'table')} analyzed"
        )


def finish(
    target: Target,
    run: str,
    *,
    oid: int,
    emit: Emit,
    cancelled: Callable[[], bool],
    record: Record | None = None,
    limits: Limits | None = None,
) -> Finished:
    """Does what ``run`` left in ``target``'s database, which must be the one with that ``oid``, and drops the list.

    What fails is passed over, and the rest is done. ``limits``: how far the server may be strained; before each thing
    it is waited for. Raises Stopped when something is left, naming it, or when the
    database was switched away meanwhile; Interrupted; Refused when somebody else is at it; Failed when production is at
    risk; OSError of the record.
    """

    def watch() -> Connection:
        return target.connect(application_name=f"lastgood watch {run}")

    with _Worker(target, run, oid, emit, cancelled) as worker, Pressure(watch, limits or Limits(), emit) as pressure:
        return worker.work(record, pressure)


@contextmanager
def in_service(run: str, hint: str, state: str) -> Iterator[None]:
    """Whatever cuts finishing off, the database is in service: turns it into Stopped, with ``hint`` and ``state``."""
    try:
        yield
    except Interrupted as error:
        raise Stopped("interrupted: something is left to finish", hint=hint, state=state) from error
    except Failed as error:
        raise Stopped(error.message, hint=f"{error.hint} {hint}".strip(), state=state) from error
    except psycopg.Error as error:
        raise Stopped(f'cannot finish run "{run}": {server_errors.words(error)}', hint=hint, state=state) from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Stopped(
            f'cannot finish run "{run}": its record can\'t be written: {why}', hint=hint, state=state
        ) from error


class _Worker:
    def __init__(self, target: Target, run: str, oid: int, emit: Emit, cancelled: Callable[[], bool]) -> None:
        self._target = target
        self._run = run
        self._oid = oid
        self._emit = emit
        self._cancelled = cancelled
        self._pause = threading.Event()
        self._failures: list[str] = []
        self._what = ""
        self._progress = (0, 1)
        self._indexes = self._foreign_keys = self._analyzed = 0
        self._gone: list[str] = []
        self._connection = self._connect()
        self._watch = Watch(target, run, self._connection, cancelled, self._said)

    def __enter__(self) -> _Worker:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.stop()
        self._connection.close()

    def _connect(self) -> Connection:
        connection = self._target.connect(application_name=f"lastgood finish {self._run}")
        try:
            row = connection.execute(
                "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = current_database()"
            ).fetchone()
            if row is None or row[0] != self._oid:
                raise Stopped(
                    f'cannot go on finishing run "{self._run}": "{self._target.dbname}" is another database now',
                    hint="It was switched by an undo or by another run. What is left stays written down in the "
                    f"database that went; if it comes back, run: lastgood resume {self._run}",
                    state=f'"{self._target.dbname}" is open.',
                )
            quiet_event_triggers(connection)
            self._take_lock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _take_lock(self, connection: Connection) -> None:
        row = connection.execute(sql.SQL("SELECT pg_try_advisory_lock({})").format(lock_key(self._run))).fetchone()
        if row is None or not row[0]:
            raise Refused(
                f'cannot finish run "{self._run}": somebody is at it already',
                hint="Look at lastgood status to see how far it is.",
                state=f'"{self._target.dbname}" is open.',
            )
        # Whoever had the lock is gone; what his session still builds would stand in the way.
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity"
                " WHERE datid = %s AND application_name = %s AND pid <> pg_backend_pid()",
                [self._oid, f"lastgood finish {self._run}"[:63]],
            )

    def _said(self, detail: str) -> None:
        done, total = self._progress
        self._emit(Progress("finish", done, total, "tasks", detail=f"{self._what}{detail}"))

    def work(self, record: Record | None, pressure: Pressure) -> Finished:
        tasks = remainder.read(self._connection, self._run)
        total = len(tasks)
        self._progress = (0, total or 1)
        self._what = "statistics"
        self._said("")
        self._analyze_all()
        for number, task in enumerate(tasks):
            self._progress, self._what = (number, total), str(task.later)
            self._said("")
            pressure.wait_if_needed(self._cancelled)
            step = f"finish {task.later}"
            if record is not None:
                record.doing(step)
            fault.point("finish.before_task")
            self._one(task.later)
            if record is not None:
                record.done(step)
        if self._failures:
            first = f"{len(self._failures)} of {total} failed" + "".join(f"\n  {f}" for f in self._failures)
            raise Stopped(
                f'cannot finish run "{self._run}": {first}',
                hint=f"When the cause is mended, run: lastgood resume {self._run}",
                state=f'"{self._target.dbname}" is the restored database, open and complete in its data.',
            )
        fault.point("finish.before_forget")
        self._attempts("drop the list", lambda: remainder.forget(self._connection, self._run))
        return Finished(
            indexes=self._indexes,
            foreign_keys=self._foreign_keys,
            analyzed=self._analyzed,
            gone=tuple(self._gone),
        )

    def _one(self, later: Later) -> None:
        """Does one thing. What the server refuses is noted, and the next one is done."""
        try:
            if later.kind is Kind.INDEX:
                self._attempts(f"build {later}", partial(self._build, later), wait="0")
                for statement in later.statements[1:]:
                    self._attempts(f"complete {later}", partial(self._run_one, later, statement))
                self._attempts(f"analyze {later}", partial(self._analyze_expressions, later))
            else:
                self._attempts(f"validate {later}", partial(self._validate, later))
        except _Failed as failed:
            self._failures.append(str(failed))
            self._emit(Caution(str(failed)))

    def _build(self, later: Later) -> None:
        state = remainder.state_of(self._connection, self._run, later)
        if self._is_gone(later, state) or state == "done":
            return
        if state == "invalid":
            # Cut off while it was built. It is of no use, and costs every write.
            index = sql.Identifier(*([later.table.schema] if later.table.schema else []), later.name)
            self._connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(index))
        self._set_up(later)
        self._connection.execute(later.statements[0].encode())
        self._indexes += 1
        fault.point("finish.after_index")

    def _analyze_expressions(self, later: Later) -> None:
        """An index of expressions has statistics of its own, which ANALYZE alone makes."""
        row = self._connection.execute(_OF_EXPRESSIONS, [later.table.schema, later.name]).fetchone()
        if row is not None:
            self._connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(later.table.schema, later.table.name)))

    def _validate(self, later: Later) -> None:
        state = remainder.state_of(self._connection, self._run, later)
        if self._is_gone(later, state) or state == "done":
            return
        self._run_one(later, later.statements[0])
        self._foreign_keys += 1

    def _run_one(self, later: Later, statement: str) -> None:
        if remainder.state_of(self._connection, self._run, later) != "gone":
            self._set_up(later)
            self._connection.execute(statement.encode())

    def _is_gone(self, later: Later, state: remainder.State) -> bool:
        if state == "gone" and str(later) not in self._gone:
            self._gone.append(str(later))
            self._emit(Note(f"{later} is not needed any more: it, or its table, was dropped or renamed meanwhile"))
        return state == "gone"

    def _set_up(self, later: Later) -> None:
        """The session as the dump had it at that statement."""
        self._connection.execute("SET search_path = ''; RESET default_tablespace; SET standard_conforming_strings = on")
        for statement in later.settings:
            self._connection.execute(statement.encode())

    def _analyze_all(self) -> None:
        """Small tables were left out before the reopening, and statistics objects may have been made after ANALYZE."""
        wanted = sql.SQL(_NEVER_ANALYZED).format(reads_foreign=sql.SQL(statistics.READS_FOREIGN))
        for schema, table in self._connection.execute(wanted, [remainder.PREFIX]).fetchall():
            query = sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table))
            try:
                self._attempts("analyze", partial(self._execute, query), tries=1)
                self._analyzed += 1
            except _Failed as failed:
                # Autovacuum will do it.
                self._emit(Note(f"{schema}.{table} was not analyzed: {failed}"))

    def _execute(self, query: sql.Composed) -> None:
        self._connection.execute(query)

    def _attempts(self, doing: str, act: Callable[[], Any], *, wait: str = "", tries: int = 0) -> None:
        """Calls ``act``; again after a deadlock, a lock that was not free, a lost connection. Raises _Failed."""
        tries = tries or TRIES
        for attempt in range(1, tries + 1):
            if self._cancelled():
                raise Interrupted("interrupted")
            try:
                self._connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(wait or SHORT_WAIT)))
                act()
                return
            except psycopg.Error as error:
                if self._cancelled():
                    raise Interrupted("interrupted") from error
                policy = server_errors.policy_of(error)
                state = error.sqlstate or ""
                if attempt == tries or policy not in (server_errors.Policy.RETRY, server_errors.Policy.RECONNECT):
                    if self._connection.broken or state.startswith(_GENERAL):
                        raise
                    raise _Failed(_said(error, doing)) from error
                self._pause.wait(attempt)
                if policy is server_errors.Policy.RECONNECT or self._connection.broken:
                    self._reconnect()

    def _reconnect(self) -> None:
        self._connection.close()
        for attempt in range(1, TRIES + 1):
            try:
                self._connection = self._connect()
                self._watch.follow(self._connection)
                return
            except (psycopg.OperationalError, Refused):
                # The server may be restarting, or not have noticed yet that our old session is gone.
                if attempt == TRIES:
                    raise
                self._pause.wait(attempt)


class _Failed(Exception):
    """One thing could not be done; the text says which, and why."""


def _said(error: psycopg.Error, doing: str) -> str:
    failed: LastgoodError = server_errors.failed(error, doing, context="constraint")
    return str(failed)
