"""Complete the deferred work while the application is running: slowly on purpose, and without blocking it.

No reader or writer is blocked: CREATE INDEX CONCURRENTLY and VALIDATE CONSTRAINT take SHARE UPDATE EXCLUSIVE locks,
which conflict only with DDL and VACUUM of the same table. The work may be interrupted at any moment and continued by
any operator; an undo terminates its sessions.
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
from lastgood.context import Context
from lastgood.dump.deferred_task import DeferredTask
from lastgood.dump.statements import Kind
from lastgood.errors import Failed, Interrupted, LastgoodError, Refused, Stopped
from lastgood.events import Caution, Note, Progress
from lastgood.load.deferred import remainder, rights
from lastgood.load.deferred.lists import lock_key
from lastgood.load.deferred.watch import ActivityWatch
from lastgood.models import Frozen
from lastgood.postgres import errors as server_errors
from lastgood.postgres import statistics
from lastgood.postgres.pressure.monitor import Pressure
from lastgood.postgres.pressure.rules import Limits
from lastgood.postgres.server import Connection, Target, quiet_event_triggers
from lastgood.text.units import counted

TRIES = 5
# A command that waits for a lock only at its beginning gives up soon and is retried, without a loss of work. CREATE
# INDEX CONCURRENTLY also waits at its end for older transactions; a timeout there would discard its work.
SHORT_WAIT = "2s"
# The server lacks resources, or is damaged: continuing would make it worse.
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
  -- ANALYZE runs expressions with the rights of the owner. Those of superusers are left to autovacuum.
  AND NOT ((SELECT rolsuper FROM pg_catalog.pg_roles r WHERE r.oid = c.relowner)
           AND (EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid AND s.stxexprs IS NOT NULL)
                OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d ON d.objid = i.indexrelid
                           WHERE i.indrelid = c.oid AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                             AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
                                                  'pg_catalog.pg_operator'::pg_catalog.regclass))))
ORDER BY c.relpages DESC, 1, 2
"""


_OF_EXPRESSIONS = """
SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid AND i.indexprs IS NOT NULL
WHERE n.nspname = %s AND c.relname = %s
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
"""


class StepRecorder(Protocol):
    """The recorder of each step: the run's journal."""

    def doing(self, step: str) -> None: ...
    def done(self, step: str, **result: Any) -> None: ...


class Finished(Frozen):
    """The completed work: indexes built, foreign keys validated, tables analyzed; ``gone``: objects that were dropped
    since."""

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
    context: Context,
    *,
    oid: int,
    record: StepRecorder | None = None,
    limits: Limits | None = None,
    trusted: bool = False,
) -> Finished:
    """Complete the deferred work of ``run`` in ``target``'s database, which must have this ``oid``, and drop the list.

    Failed tasks are skipped, and the others done. Unless ``trusted``, so are those that would run code with rights of
    the operator. ``limits`` of the server's load are checked before each task. Raises
    Stopped, with the failures, when work is left, or when the database was replaced meanwhile; Interrupted; Refused
    when another session is finishing the run; Failed when production is at risk; OSError of the record.
    """

    def watch() -> Connection:
        return target.connect(application_name=f"lastgood watch {run}")

    limits = limits or Limits(max_wal_lag=context.pace.max_wal_lag)
    with _Worker(target, run, oid, context, trusted) as worker, Pressure(watch, limits, context.emit) as pressure:
        return worker.work(record, pressure)


@contextmanager
def in_service(run: str, hint: str, state: str) -> Iterator[None]:
    """Turn any interruption into Stopped, with ``hint`` and ``state``, because the database is in service already."""
    try:
        yield
    except Interrupted as error:
        raise Stopped("interrupted: work is left to finish", hint=hint, state=state) from error
    except Failed as error:
        raise Stopped(error.message, hint=f"{error.hint} {hint}".strip(), state=state) from error
    except psycopg.Error as error:
        raise Stopped(
            f'cannot finish run "{run}": {server_errors.message_of(error)}', hint=hint, state=state
        ) from error
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Stopped(
            f'cannot finish run "{run}": its journal cannot be written: {why}', hint=hint, state=state
        ) from error


class _Worker:
    def __init__(self, target: Target, run: str, oid: int, context: Context, trusted: bool) -> None:
        self._target = target
        self._run = run
        self._oid = oid
        self._context = context
        self._trusted = trusted
        self._pause = threading.Event()
        self._failures: list[str] = []
        self._what = ""
        self._progress = (0, 1)
        self._indexes = self._foreign_keys = self._analyzed = 0
        self._gone: list[str] = []
        self._connection = self._connect()
        self._watch = ActivityWatch(target, run, self._connection, context.cancelled, self._report)

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
                    f'cannot continue finishing run "{self._run}": "{self._target.dbname}" is now another database',
                    hint="An undo or another run replaced it. The replaced database keeps the list of remaining work; "
                    f"if it becomes live again, run: lastgood resume {self._run}",
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
                f'cannot finish run "{self._run}": another session is already finishing it',
                hint="Check its progress: lastgood status",
                state=f'"{self._target.dbname}" is open.',
            )
        # The previous holder of the lock is gone; a command that its session still runs would be in the way.
        with suppress(psycopg.errors.InsufficientPrivilege):
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_catalog.pg_stat_activity"
                " WHERE datid = %s AND application_name = %s AND pid <> pg_backend_pid()",
                [self._oid, f"lastgood finish {self._run}"[:63]],
            )

    def _report(self, detail: str) -> None:
        done, total = self._progress
        self._context.emit(Progress("finish", done, total, "tasks", detail=f"{self._what}{detail}"))

    def work(self, record: StepRecorder | None, pressure: Pressure) -> Finished:
        tasks = remainder.read(self._connection, self._run)
        total = len(tasks)
        self._progress = (0, total or 1)
        self._what = "statistics"
        self._report("")
        self._analyze_all()
        for number, task in enumerate(tasks):
            self._progress, self._what = (number, total), str(task.later)
            self._report("")
            pressure.wait_if_needed(self._context.cancelled)
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
                hint=f"Fix the cause, then run: lastgood resume {self._run}",
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

    def _one(self, later: DeferredTask) -> None:
        """Complete one task. A refusal of the server is recorded, and the work continues."""
        try:
            if remainder.state_of(self._connection, self._run, later) in ("open", "invalid"):
                self._attempts(f"do {later}", partial(self._refuse_code, later))
            if later.kind is Kind.INDEX:
                self._attempts(f"build {later}", partial(self._build, later), wait="0")
                for statement in later.statements[1:]:
                    self._attempts(f"complete {later}", partial(self._run_one, later, statement))
                self._attempts(f"analyze {later}", partial(self._analyze_expressions, later))
            else:
                self._attempts(f"validate {later}", partial(self._validate, later))
        except _Failed as failed:
            self._failures.append(str(failed))
            self._context.emit(Caution(str(failed)))

    def _refuse_code(self, later: DeferredTask) -> None:
        if not self._trusted and (why := rights.why_not(self._connection, later)):
            raise _Failed(f"cannot {'build' if later.kind is Kind.INDEX else 'validate'} {later}: {why}")

    def _build(self, later: DeferredTask) -> None:
        state = remainder.state_of(self._connection, self._run, later)
        if self._is_gone(later, state) or state == "done":
            return
        if state == "invalid":
            # Its build was interrupted. It is useless, but slows down every write.
            index = sql.Identifier(*([later.table.schema] if later.table.schema else []), later.name)
            self._connection.execute(sql.SQL("DROP INDEX CONCURRENTLY {}").format(index))
        self._set_up(later)
        self._connection.execute(later.statements[0].encode())
        self._indexes += 1
        fault.point("finish.after_index")

    def _analyze_expressions(self, later: DeferredTask) -> None:
        """Analyze the table of an index of expressions, whose statistics only ANALYZE gathers."""
        row = self._connection.execute(_OF_EXPRESSIONS, [later.table.schema, later.name]).fetchone()
        if row is not None and (self._trusted or not rights.analyzes_code(self._connection, later.table)):
            self._connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(later.table.schema, later.table.name)))

    def _validate(self, later: DeferredTask) -> None:
        state = remainder.state_of(self._connection, self._run, later)
        if self._is_gone(later, state) or state == "done":
            return
        self._run_one(later, later.statements[0])
        self._foreign_keys += 1

    def _run_one(self, later: DeferredTask, statement: str) -> None:
        if remainder.state_of(self._connection, self._run, later) != "gone":
            self._set_up(later)
            self._connection.execute(statement.encode())

    def _is_gone(self, later: DeferredTask, state: remainder.State) -> bool:
        if state == "gone" and str(later) not in self._gone:
            self._gone.append(str(later))
            self._context.emit(Note(f"{later} is no longer needed: it or its table was dropped or renamed"))
        return state == "gone"

    def _set_up(self, later: DeferredTask) -> None:
        """Set the session up as the dump did for this statement."""
        self._connection.execute("SET search_path = ''; RESET default_tablespace; SET standard_conforming_strings = on")
        for statement in later.settings:
            self._connection.execute(statement.encode())

    def _analyze_all(self) -> None:
        """Analyze tables that were deferred because they are small, or got statistics objects after their ANALYZE."""
        wanted = sql.SQL(_NEVER_ANALYZED).format(reads_foreign=sql.SQL(statistics.READS_FOREIGN))
        for schema, table in self._connection.execute(wanted, [remainder.PREFIX]).fetchall():
            query = sql.SQL("ANALYZE {}").format(sql.Identifier(schema, table))
            try:
                self._attempts("analyze", partial(self._execute, query), tries=1)
                self._analyzed += 1
            except _Failed as failed:
                # Autovacuum will do it.
                self._context.emit(Note(f"{schema}.{table} was not analyzed: {failed}"))

    def _execute(self, query: sql.Composed) -> None:
        self._connection.execute(query)

    def _attempts(self, doing: str, act: Callable[[], Any], *, wait: str = "", tries: int = 0) -> None:
        """Call ``act``; retry after a deadlock, a lock timeout, or a lost connection. Raises _Failed."""
        tries = tries or TRIES
        for attempt in range(1, tries + 1):
            self._context.check("interrupted")
            try:
                self._connection.execute(sql.SQL("SET lock_timeout = {}").format(sql.Literal(wait or SHORT_WAIT)))
                act()
                return
            except psycopg.Error as error:
                if self._context.cancelled():
                    raise Interrupted("interrupted") from error
                policy = server_errors.policy_of(error)
                state = error.sqlstate or ""
                if attempt == tries or policy not in (
                    server_errors.ErrorPolicy.RETRY,
                    server_errors.ErrorPolicy.RECONNECT,
                ):
                    if self._connection.broken or state.startswith(_GENERAL):
                        raise
                    raise _Failed(_message(error, doing)) from error
                self._pause.wait(attempt)
                if policy is server_errors.ErrorPolicy.RECONNECT or self._connection.broken:
                    self._reconnect()

    def _reconnect(self) -> None:
        self._connection.close()
        for attempt in range(1, TRIES + 1):
            try:
                self._connection = self._connect()
                self._watch.follow(self._connection)
                return
            except (psycopg.OperationalError, Refused):
                # The server may be restarting, or may not have noticed yet that our old session is gone.
                if attempt == TRIES:
                    raise
                self._pause.wait(attempt)


class _Failed(Exception):
    """One task failed; the text names it and the reason."""


def _message(error: psycopg.Error, doing: str) -> str:
    failed: LastgoodError = server_errors.failed(error, doing, context="constraint")
    return str(failed)
