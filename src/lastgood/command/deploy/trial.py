"""``lastgood deploy --dry-run``: run the migration on a clone of the live database and observe its table locks.

The clone is restored from a fresh copy under its own name, and removed afterwards. The migration's environment names
the clone; any other variable that names the live database is refused. A session of the migration in the live database
ends the trial. Another session observes the locks and their duration.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import psycopg

from lastgood import restore
from lastgood.command.deploy import migration
from lastgood.command.deploy.after import wrong_version
from lastgood.command.deploy.changes import STAGE as STAGE_OF_CHANGES
from lastgood.command.deploy.changes import changes
from lastgood.command.deploy.course import DeployRequest
from lastgood.command.deploy.environment import leads_to, resolved, tag
from lastgood.command.deploy.keys import Declared, broken_since
from lastgood.command.deploy.migration import STAGE, MigrationCommand, Outcome, Watcher, command_of
from lastgood.command.deploy.report import (
    HeldLock,
    TrialReport,
    Worse,
    objects_of,
    verdict_of,
    worse_of,
)
from lastgood.command.facts import account
from lastgood.command.validate import validate
from lastgood.command.validate.validate import ValidationVerdict
from lastgood.context import Context
from lastgood.errors import Failed, LastgoodError, Refused, Stopped
from lastgood.events import Caution, Emit, StageDone, StageFailed, StageStarted, reported, silent
from lastgood.journal import Journal, recording
from lastgood.journal.run_names import new_run, suffix
from lastgood.loss import Comparing
from lastgood.points import RestorePoint, dump_point
from lastgood.points.manifest import manifest_path
from lastgood.postgres import clock, database, lock
from lastgood.postgres.access.grants import Operator
from lastgood.postgres.apply import apply
from lastgood.postgres.mark import marked
from lastgood.postgres.remaining_sessions import ProgramTrace, find
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.state import DatabaseState
from lastgood.process import durable, interrupts
from lastgood.run.report import SkippedCommands

LOOK_SECONDS = 0.05
UNTOUCHED = '"{live}" was not touched: the migration ran on a clone, which is removed.'


def trial(request: DeployRequest, emit: Emit = silent) -> TrialReport:
    """Try the migration on a clone and report its changes. Raises Refused, UsageError, BadPoint, Failed before it runs,
    Stopped when the migration connected to the live database. A migration that fails or makes the data worse is no
    error, but the ``problem`` of the report."""
    migration.checked(request.command)
    target = request.base.target
    live = target.dbname
    stop = interrupts.StopRequest()
    with database.connect_maintenance(target, live) as maintenance:
        database.describe(maintenance, live)
        _report_leftovers(maintenance, live, emit)
        run = new_run(clock.now(maintenance))
        keywords = resolved(target, live)
        clone = database.fit_name(live, suffix("trial", run))
        command = command_of(request, {**keywords, "dbname": clone}, run, dry_run="1")
        _refuse_detours(command.environment, request.command, keywords, request.settings.url_variables)
        journal = recording.begin(
            request.base.state, run, "deploy", skew=clock.skew(maintenance), live=live, dry_run=True, clone=clone
        )
        with recording.recording(journal, emit) as recorded, interrupts.stop_on_signal(stop):
            context = Context(recorded, stop.is_set, request.base.pace)
            report = _Trial(request, maintenance, command, keywords["user"], clone, journal, context).run()
            recording.write_end(journal, "done" if not report.problem else "failed", report=report.document())
            return report


def _refuse_detours(
    given: Mapping[str, str], arguments: Sequence[str], live: Mapping[str, str], variables: Sequence[str]
) -> None:
    """Refuse variables and arguments that name the live database instead of the clone. Raises Refused."""
    untouched = f'"{live["dbname"]}" was not touched.'
    for name, value in sorted(given.items()):
        if name not in variables and leads_to(value, live):
            raise Refused(
                f'cannot try the migration on a clone: variable "{name}" names the live database',
                hint=f'Unset it, or add "{name}" to url_variables of [deploy] in lastgood.toml so that it names the '
                "clone.",
                state=untouched,
            )
    for number, word in enumerate(arguments[1:], 1):
        value = word.partition("=")[2] if word.startswith("--") else word
        named = arguments[number - 1] in ("-d", "--dbname") or word.startswith("--dbname=")
        if leads_to(value, live) or (named and value == live["dbname"]):
            raise Refused(
                f"cannot try the migration on a clone: argument {number} of its command names the live database",
                hint="Leave the argument out: the command finds its database in PGDATABASE, DATABASE_URL or "
                "LASTGOOD_DB.",
                state=untouched,
            )


def _report_leftovers(maintenance: Connection, live: str, emit: Emit) -> None:
    for found, mark in marked(maintenance):
        trial = mark.role == "copy" and mark.live == live and mark.options.get("kind") == "trial"
        if trial and lock.copy_holder(maintenance, found.name) is None:
            emit(
                Caution(
                    f'clone "{found.name}" of an earlier trial still exists; to remove it: lastgood abort {mark.run}'
                )
            )


class _Trial:
    def __init__(
        self,
        request: DeployRequest,
        maintenance: Connection,
        command: MigrationCommand,
        user: str,
        clone: str,
        journal: Journal,
        context: Context,
    ) -> None:
        self._request = request
        self._maintenance = maintenance
        self._command = command
        self._user = user
        self._clone = clone
        self._journal = journal
        self._context = context
        self._emit = context.emit
        self._live = request.base.target.dbname
        self._strayed = threading.Event()
        self._seconds: dict[str, float] = {}
        self._skipped: tuple[SkippedCommands, ...] = ()

    @property
    def _target(self) -> Target:
        return self._request.base.target.at(self._clone)

    def run(self) -> TrialReport:
        """Run the whole trial. The clone is removed afterwards."""
        began = time.monotonic()
        try:
            with self._copy() as point, self._cloned(point):
                report = self._tried(point)
        except LastgoodError as error:
            if not isinstance(error, Stopped):
                error.state = UNTOUCHED.format(live=self._live)
            raise
        seconds = {**self._seconds, "total": time.monotonic() - began}
        return report.model_copy(update={"seconds": {name: round(value, 3) for name, value in seconds.items()}})

    @contextmanager
    def _copy(self) -> Iterator[RestorePoint]:
        """Make a fresh restore point in a temporary folder, removed with the trial."""
        store = self._request.base.store
        durable.private_folder(store)
        folder = Path(tempfile.mkdtemp(prefix=".trial_", dir=store))
        try:
            with reported(self._emit, "backup", "copy the live database") as stage:
                point = dump_point.take(
                    self._request.base.target, folder, label="trial", form=self._request.form, context=self._context
                )
            self._seconds["copy"] = stage.seconds
            yield point
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _cloned(self, point: RestorePoint) -> Iterator[None]:
        request = self._request.base
        began = time.monotonic()
        lock.claim_copy(self._maintenance, self._clone)
        restored = restore.restore(
            request.target,
            point.path.parent,
            str(point.path),
            self._clone,
            self._context,
            kind="trial",
            policy=request.code,
        )
        self._skipped = restored.skipped
        made = database.describe(self._maintenance, self._clone)
        try:
            self._copy_settings()
            self._seconds["clone"] = time.monotonic() - began
            yield
        finally:
            self._removed(made.oid)

    def _copy_settings(self) -> None:
        """Copy the live database's own settings and privileges: a migration may depend on a search_path."""
        state = DatabaseState.read(self._maintenance, self._live)
        found = DatabaseState.read(self._maintenance, self._clone)
        wanted = replace(state, comment=found.comment)
        refused = apply(self._maintenance, wanted.statements(self._clone, found, Operator.read(self._maintenance)))
        if refused:
            self._emit(Caution(f"cannot copy {len(refused)} settings or privileges of the live database to the clone"))

    def _removed(self, oid: int) -> None:
        try:
            try:
                database.drop(self._maintenance, self._clone, oid)
            except Failed:  # for example a lost session
                with database.connect_maintenance(self._request.base.target, self._live) as again:
                    database.drop(again, self._clone, oid)
        except (LastgoodError, psycopg.Error) as error:
            self._emit(Caution(f"cannot remove the clone ({error}); to remove it later: lastgood prune {self._clone}"))

    def _tried(self, point: RestorePoint) -> TrialReport:
        assert point.manifest is not None
        facts, request = restore.copied(point.manifest.facts, self._skipped), self._request
        check = request.settings.check
        before = None
        if check != "none":
            before = validate.validate(self._target, request.validation, check, self._context)
        with self._target.connect(application_name="lastgood inspects") as connection:
            keys_before = Declared.read(connection)
        outcome, locks = self._migrated()
        if self._strayed.is_set():
            self._refuse_stray(point)
        self._context.check("interrupted: the clone was removed")
        problem = outcome.problem
        after: ValidationVerdict | None = None
        worse: tuple[Worse, ...] = ()
        if not problem and before is not None and check != "none":
            after = validate.validate(self._target, request.validation, check, self._context)
            vanished, _ = broken_since(
                self._target, keys_before, before, request.validation.ignore, request.validation.time_limit
            )
            worse = (*vanished, *worse_of(after, before))
            problem = verdict_of(worse, after, before)
        base = request.base
        how = Comparing(base.compare, base.check.compare_limit, base.loss)
        with reported(self._emit, STAGE_OF_CHANGES, "compare the clone with the copy"):
            tables = changes(self._target, point, facts, how, self._context)
        now = account.of_database(self._target, like=facts, digests=False, context=self._context)
        problem = problem or wrong_version(request.expect_version, now.migration)
        added, removed, changed = objects_of(facts, now)
        return TrialReport(
            run=self._journal.run,
            live=self._live,
            problem=problem,
            command=outcome.report,
            before=before.summary if before is not None else None,
            after=after.summary if after is not None else None,
            worse=worse,
            tables=tables,
            added=added,
            removed=removed,
            changed=changed,
            migration_before=facts.migration.version if facts.migration is not None else None,
            migration_after=now.migration.version if now.migration is not None else None,
            locks=locks,
            seconds={},
        )

    def _migrated(self) -> tuple[Outcome, tuple[HeldLock, ...]]:
        emit, command, request = self._emit, self._command, self._request
        with self._target.connect(application_name="lastgood inspects") as connection:
            locks = ObservedLocks(connection)
        trace = ProgramTrace(tag(self._journal.run), self._user, clock.now(self._maintenance))
        live, clone = (database.describe(self._maintenance, name).oid for name in (self._live, self._clone))

        def sample(connection: Connection) -> None:
            locks.sample(connection)
            for each in find(connection, live, trace):
                self._strayed.set()
                with suppress(psycopg.Error):
                    connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])

        emit(StageStarted(STAGE, f"run the migration on the clone: {command.shown}"))
        watcher = Watcher(self._target, clone, trace, sample, every=LOOK_SECONDS)
        outcome = migration.run(
            command,
            self._journal.run,
            self._journal.path,
            watcher,
            self._context.until(self._strayed.is_set),
            seconds=request.settings.time_limit,
        )
        self._seconds["migrate"] = outcome.report.seconds
        if self._strayed.is_set():
            outcome = replace(outcome, problem="the migration connected to the live database")
        if outcome.problem:
            emit(StageFailed(STAGE, outcome.report.seconds, outcome.problem))
        else:
            emit(StageDone(STAGE, outcome.report.seconds, "status 0"))
        return outcome, locks.found()

    def _refuse_stray(self, point: RestorePoint) -> None:
        """Keep the copy as a restore point and report the migration that was terminated in the live database."""
        store = self._request.base.store
        saved = store / point.path.name.replace("_trial", "_before_stray_trial")
        manifest_path(point.path).rename(manifest_path(saved))
        point.path.rename(saved)
        raise Stopped(
            f'cannot try the migration on a clone: it connected to the live database "{self._live}" and was terminated',
            hint=f"See what it changed: lastgood facts {saved} --live. To roll back: lastgood rollback {saved}. Then "
            "fix the migration's own settings: its database must come from PGDATABASE, DATABASE_URL or LASTGOOD_DB.",
            state=f'"{self._live}" is open; the migration may have changed it. The restore point {saved} was made '
            "before.",
        )


# The sessions that each mode blocks.
BLOCKS = {
    "AccessExclusiveLock": "readers and writers",
    "ExclusiveLock": "writers",
    "ShareRowExclusiveLock": "writers",
    "ShareLock": "writers",
}
# Sizes from the catalogue, because pg_relation_size would wait for the observed lock.
_HELD = """
SELECT c.oid::int8, n.nspname, c.relname, l.mode, c.relpages::int8 * pg_catalog.current_setting('block_size')::int8,
       greatest(c.reltuples, 0)::int8
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.granted AND l.mode = ANY (%s) AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_'
"""
_TABLES = "SELECT oid::int8 FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'm')"


class ObservedLocks:
    """The observed locks. ``before``: a connection to the clone, before the migration."""

    def __init__(self, before: Connection) -> None:
        self._there = {int(oid) for (oid,) in before.execute(_TABLES)}
        self._seen: dict[tuple[int, str], tuple[float, float, HeldLock]] = {}

    def sample(self, connection: Connection) -> None:
        """Take one sample, from a session in the clone."""
        now = time.monotonic()
        for oid, schema, name, mode, size, rows in connection.execute(_HELD, [list(BLOCKS)]).fetchall():
            if oid not in self._there:
                continue  # created by the migration itself
            first, _, _ = self._seen.get((oid, mode), (now, now, None))
            held = HeldLock(
                table=f"{schema}.{name}", mode=mode, blocks=BLOCKS[mode], seconds=0.0, bytes=size, rows=rows
            )
            self._seen[oid, mode] = (first, now, held)

    def found(self) -> tuple[HeldLock, ...]:
        """Return the locks, longest first."""
        held = [lock.model_copy(update={"seconds": round(last - first, 3)}) for first, last, lock in self._all()]
        return tuple(sorted(held, key=lambda each: (-each.seconds, each.table)))

    def _all(self) -> Iterable[tuple[float, float, HeldLock]]:
        return self._seen.values()
