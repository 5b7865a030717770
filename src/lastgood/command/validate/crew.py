"""The execution of tasks on several connections that share one snapshot of the database."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from time import monotonic

import psycopg
from psycopg import IsolationLevel, sql

from lastgood.command.validate.budget import PlannedTask
from lastgood.command.validate.reader import OutOfTime, RuleReader
from lastgood.command.validate.rule import Mode, RuleFinding, RuleTask
from lastgood.command.validate.verdict import RuleResult, result
from lastgood.context import Context
from lastgood.errors import Interrupted
from lastgood.events import Progress
from lastgood.postgres.kept import read_only
from lastgood.postgres.pressure.capacity import Capacity, capacity
from lastgood.postgres.roles.build_role import PREFIX
from lastgood.postgres.roles.reader_role import ReaderRole, reader_role
from lastgood.postgres.server import SESSION, Connection, Target, only_row, set_where_possible

_DENIED = re.compile(r"permission denied for (table|view|materialized view|sequence|schema|function) (.+)")
_MISSING_RIGHTS = """
SELECT n.nspname, c.relname, c.relkind::text, pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
       CASE WHEN c.relkind = 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
            ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END,
       CASE WHEN c.relkind = 'S' THEN false ELSE pg_catalog.row_security_active(c.oid) END, current_user
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::oid[])
ORDER BY n.nspname, c.relname
"""
STAGE = "validate"
MOST_MEMORY = 64 << 20
# The share of the remaining time of --quick that a single rule of the user may take.
OWN_SHARE = 0.5
_NOT_FOUND = ("42P01", "42883", "42703", "42704", "3F000")
# The wait for a lock is short, because other sessions may queue behind it.
LOCK_TIMEOUT = "2s"
# Set for the transaction only: behind a pooler, another client may get the session next.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("lock_timeout", LOCK_TIMEOUT),
    ("statement_timeout", "0"),
    # Rows hidden by row-level security must cause an error, not a smaller count.
    ("row_security", "off"),
    ("max_parallel_workers_per_gather", "0"),
    # The planner must not rely on the constraints that are being checked.
    ("constraint_exclusion", "off"),
    ("synchronize_seqscans", "off"),
    ("extra_float_digits", "1"),
    ("bytea_output", "hex"),
)


class ConnectionLost(Exception):
    """The connection or the server was lost during ``rule``."""

    def __init__(self, rule: str, error: psycopg.Error) -> None:
        super().__init__(rule)
        self.rule = rule
        self.error = error


@dataclass
class Snapshot:
    """Connections that share one snapshot. ``path``: the default search_path of this role. ``role``: as which code of
    the database runs."""

    target: Target
    first: Connection
    capacity: Capacity
    path: str
    role: ReaderRole
    _stack: ExitStack

    def share(self, number: int) -> list[Connection]:
        """Return up to ``number`` connections with the same snapshot, including the first unless there is a reader
        role. Fewer if the server has no free connections, or if a pooler distributes them over several servers. Raises
        psycopg.Error without any."""
        connections = [] if self.role.made else [self.first]
        most = max(1, min(number, self.capacity.jobs))
        if most <= len(connections):
            return connections
        (name,) = only_row(self.first, "SELECT pg_catalog.pg_export_snapshot()")
        target = read_only(self.role.target, self.target) if self.role.made else self.target
        for number in range(2 - self.role.made, most + 1):
            try:
                connection = self._stack.enter_context(_connected(target, f"lastgood validate {number}"))
                _begin(connection)
                connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
                _settle(connection, self.capacity)
            except psycopg.Error:
                if not connections:
                    raise
                # No free connection, or another server behind the same address: continue with fewer.
                break
            connections.append(connection)
        return connections


@contextmanager
def snapshot(target: Target, jobs: int | None = None) -> Iterator[Snapshot]:
    """Open a read-only snapshot of the database. Raises psycopg.Error."""
    with ExitStack() as stack:
        first = stack.enter_context(_connected(target, "lastgood validate"))
        with first.transaction():
            # That of the database may lead to operators and functions that run with the rights of this role.
            first.execute("SET LOCAL search_path = ''")
            path = first.execute("SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'search_path'").fetchone()
            room = capacity(first, jobs=jobs, into=first.info.dbname, others=0)
            role = stack.enter_context(reader_role(target, first))
        _begin(first)
        first.execute("SELECT")  # begins the transaction and takes the snapshot
        _settle(first, room)
        yield Snapshot(target, first, room, path[0] if path is not None else "", role, stack)


@contextmanager
def _connected(target: Target, name: str) -> Iterator[Connection]:
    """Open a connection that is closed at the end without commit."""
    connection = target.connect_unchanged(application_name=name)
    connection.prepare_threshold = None  # queries are not repeated, and a pooler may not support prepared statements
    try:
        yield connection
    finally:
        connection.close()


def _begin(connection: Connection) -> None:
    """Prepare a transaction that begins, with its snapshot, at the next command."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ
    connection.read_only = True
    connection.autocommit = False


def _settle(connection: Connection, room: Capacity) -> None:
    connection.execute("SET LOCAL search_path = ''")  # the next query is resolved by it
    memory = max(4 << 20, min(MOST_MEMORY, room.maintenance_work_mem))
    wanted = {**dict(SESSION), **dict(SETTINGS), "work_mem": f"{memory >> 10}kB"}
    set_where_possible(connection, [*wanted.items()], local=True)


class Crew:
    """Runs tasks in order on several connections."""

    def __init__(
        self,
        connections: Sequence[Connection],
        path: str,
        mode: Mode,
        deadline: float | None,
        context: Context,
        *,
        operator: Connection | None = None,
    ) -> None:
        """``operator``: the connection for tasks that need the operator's rights, if the others lack them."""
        self._connections = connections
        self._operator = operator
        self._one_by_one = threading.Lock()
        self._path = path
        self._share = OWN_SHARE if mode == "quick" else 1.0
        self._deadline = deadline
        self._context = context
        self._lock = threading.Lock()
        self._next = 0
        self._done = 0
        self._stopped = threading.Event()
        self._failed: BaseException | None = None
        self._results: list[tuple[RuleResult, ...]] = []

    def run(self, planned: Sequence[PlannedTask]) -> list[tuple[RuleResult, ...]]:
        """Run all tasks and return their results in order. Raises Interrupted, Lost."""
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
                    if self._context.cancelled():
                        self._stop(Interrupted("interrupted during the validation"))
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
        """Cancel the running queries. Called repeatedly, because a cancel between two queries has no effect."""
        for connection in (*self._connections, self._operator):
            with suppress(psycopg.Error):  # the query may have just ended
                if connection is not None:
                    connection.cancel_safe(timeout=5)

    def _work(self, connection: Connection, planned: Sequence[PlannedTask]) -> None:
        reader = RuleReader(connection, self._deadline, self._stopped.is_set, self._path)
        total = sum(len(each.task.rules) for each in planned)
        while not self._stopped.is_set():
            with self._lock:
                number = self._next
                self._next += 1
                done = self._done
            if number >= len(planned):
                return
            each = planned[number]
            self._context.emit(Progress(STAGE, done, total, "rules", detail=each.task.rules[0].name))
            began = monotonic()
            try:
                if each.task.as_operator and self._operator is not None:
                    with self._one_by_one:
                        strong = RuleReader(self._operator, self._deadline, self._stopped.is_set, self._path)
                        findings = self._findings(each.task, each.sample, strong)
                else:
                    findings = self._findings(each.task, each.sample, reader)
            except psycopg.Error as error:
                self._stop(ConnectionLost(each.task.rules[0].name, error))
                return
            except BaseException as error:
                self._stop(error)
                return
            seconds = monotonic() - began
            self._results[number] = tuple(
                result(rule, one, seconds) for rule, one in zip(each.task.rules, findings, strict=True)
            )
            with self._lock:
                self._done += len(each.task.rules)
                done = self._done
            self._context.emit(Progress(STAGE, done, total, "rules", detail=each.task.rules[0].name))

    def _findings(
        self, task: RuleTask, sample: float | None, reader: RuleReader, path: str | None = None
    ) -> Sequence[RuleFinding]:
        own = any(rule.weight is not None for rule in task.rules)
        try:
            with reader.task(self._share if own else 1.0):
                if path is not None:
                    reader.rows(sql.SQL("SELECT pg_catalog.set_config('search_path', %s, true)"), [path])
                return task.run(reader, sample)
        except OutOfTime:
            return [OUT_OF_TIME for _ in task.rules]
        except psycopg.Error as error:
            if reader.connection.closed or self._stopped.is_set():
                raise
            if error.sqlstate not in ("57014", "55P03", "40001") and task.single_rule_tasks:
                return [found for each in task.single_rule_tasks for found in self._findings(each, sample, reader)]
            if error.sqlstate in _NOT_FOUND and path is None and reader.path:
                # A function in a CHECK or an index may depend on the search_path of the application.
                return self._findings(task, sample, reader, reader.path)
            with reader.connection.transaction(force_rollback=True):
                obstacle = skipped_finding(reader.connection, error, task.relations, timed=self._deadline is not None)
            return [obstacle or _refused(error) for _ in task.rules]


def _refused(error: psycopg.Error) -> RuleFinding:
    """Build a failed result for any other error: it may be caused by the data."""
    state = f" [SQLSTATE {error.sqlstate}]" if error.sqlstate else ""
    return RuleFinding(
        message=f"the check failed: {error.diag.message_primary or error}{state}",
        hint="Check the latest entries of the server's log for details.",
        failed=True,
    )


def skipped_finding(
    connection: Connection, error: psycopg.Error, relations: Sequence[int], *, timed: bool
) -> RuleFinding | None:
    """Return a skipped finding if ``error`` is not caused by the data; None if it may be. ``timed``: the task had a
    time limit. Queries the server for missing privileges. Raises psycopg.Error."""
    message = error.diag.message_primary or str(error)
    if error.sqlstate == "57014" and timed:
        return OUT_OF_TIME
    if error.sqlstate == "55P03":
        return RuleFinding(
            message="another session holds a lock on it (ALTER TABLE, VACUUM FULL, …)",
            hint="Find the session in pg_stat_activity, and try again when it has ended.",
            skipped="locked",
        )
    if error.sqlstate in ("57014", "40001") or (error.sqlstate or "").startswith("53"):
        return RuleFinding(message=f"the server cancelled the check: {message}", hint="Try again.", skipped="locked")
    if error.sqlstate in ("0A000", "25006"):
        return RuleFinding(message=f"the check is not possible on this server: {message}", skipped="unavailable")
    if error.sqlstate == "42501":
        return RuleFinding(message=message, hint=_grants(connection, message, relations), skipped="privilege")
    return None


OUT_OF_TIME = RuleFinding(
    message="time limit reached",
    hint="Raise time_limit in [validate] or --time-limit, or use --full, which has no limit.",
    skipped="time",
)


def _grants(connection: Connection, message: str, relations: Sequence[int]) -> str:
    if connection.info.user.startswith(PREFIX):
        return "Validate as a role that has this privilege, and none outside of the database."
    commands = list(_missing_grants(connection, relations))
    if not commands and (match := _DENIED.fullmatch(message)):
        role = sql.Identifier(connection.info.user).as_string(connection)
        right = {"schema": "USAGE", "function": "EXECUTE"}.get(match[1], "SELECT")
        what = match[1] if match[1] in ("schema", "function", "sequence") else "table"
        commands = [f"GRANT {right} ON {what.upper()} {match[2]} TO {role}"]
    return f"As the owner or a superuser, run: {'; '.join(commands)}" if commands else ""


def _missing_grants(connection: Connection, relations: Sequence[int]) -> Iterator[str]:
    schemas = set()
    for schema, name, kind, usage, select, hidden, user in connection.execute(
        _MISSING_RIGHTS, [list(relations)]
    ).fetchall():
        role = sql.Identifier(user)
        if not usage and schema not in schemas:
            schemas.add(schema)
            yield sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(sql.Identifier(schema), role).as_string(connection)
        if not select:
            what = sql.SQL("SEQUENCE" if kind == "S" else "TABLE")
            grant = sql.SQL("GRANT SELECT ON {} {} TO {}").format(what, sql.Identifier(schema, name), role)
            yield grant.as_string(connection)
        if hidden:
            yield sql.SQL("ALTER ROLE {} BYPASSRLS").format(role).as_string(connection)
