"""The workers: threads with a session each, which take tasks until none is left or one has failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress

import psycopg

from lastgood.dump.script import Script
from lastgood.dump.statements import Kind, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Interrupted
from lastgood.load.builder import Builder, Divided, divided, runs_when_read
from lastgood.load.graph import tasks_of
from lastgood.load.loaded import Loaded
from lastgood.load.options import Options
from lastgood.load.schedule import Schedule
from lastgood.load.session import LoadSession
from lastgood.load.settle import settle
from lastgood.load.supply import Supply
from lastgood.load.tasks import Task, analyzed_last
from lastgood.load.tracker import Tracker
from lastgood.load.work import Job
from lastgood.postgres.server import Connection

Connect = Callable[[str], AbstractContextManager[Connection]]
"""A function that opens a session in autocommit mode in the database that is loaded; its argument is the purpose."""

NO_CONNECTION_LEFT = "53300"


def load(connect: Connect, script: Script, summary: DumpSummary, supply: Supply, options: Options) -> Loaded:
    """Run the whole script. Raises Failed at the first error that no rule allows, Interrupted when cancelled, and
    errors of reading the dump; all sessions are closed then.
    """
    crew = _Crew(connect, script, summary, supply, options)
    crew.run()
    loaded = crew.job.loaded
    if not options.pressure.slowed:
        loaded.spent, loaded.size = crew.job.tracker.lessons(), crew.job.tracker.size
    return loaded


class _Crew:
    def __init__(
        self, connect: Connect, script: Script, summary: DumpSummary, supply: Supply, options: Options
    ) -> None:
        self._connect = connect
        self._options = options
        self._summary = summary
        read_back, costs = options.reading is not None, options.known.costs
        self._divided = divided(script.items) if options.builder is not None else None
        tasks = tasks_of(
            script.items if self._divided is None else self._divided.main,
            summary,
            workers=options.capacity.jobs,
            read_back=read_back,
            costs=costs,
            strict=options.rules.strict,
        )
        tracker = Tracker(
            tasks,
            options.capacity.jobs,
            options.context.emit,
            known=options.known,
            in_order=supply.in_order,
            after=analyzed_last(script, summary, costs),
        )
        self.job = Job(script, summary, supply, options, self.parallel, tracker)
        self._schedule = Schedule(tasks, in_order=supply.in_order, cheap=costs.cheap)
        self._changed = threading.Condition()
        self._sessions: list[LoadSession] = []
        self._busy = 0
        self._failed: BaseException | None = None

    def run(self) -> None:
        for item in self.job.steps():
            if item.command.verdict is Verdict.SKIP and item.command.kind is not Kind.PSQL:
                self.job.commands.leave_out(item.command, item.command.reason)
        if self._options.builder is not None and self._divided is not None:
            self._open(self._options.builder, self._divided)
        with ExitStack() as stack:
            for number in range(self._options.capacity.jobs):
                try:
                    connection = stack.enter_context(self._connect(f"load {number + 1}"))
                except psycopg.OperationalError as error:
                    if not self._sessions or error.sqlstate not in (None, NO_CONNECTION_LEFT):
                        raise
                    break  # no connection left on the server: continue with fewer workers
                self._sessions.append(self._session(connection))
            self.job.tracker.start(len(self._sessions))
            threads = [
                threading.Thread(target=self._work, args=[session], name="lastgood-load", daemon=True)
                for session in self._sessions
            ]
            for thread in threads:
                thread.start()
            try:
                for thread in threads:
                    while thread.is_alive():
                        thread.join(0.2)  # signals are handled in between
                        self.job.tracker.report()
                        if self._options.context.cancelled():
                            self._fail(Interrupted("interrupted while the dump was loaded"))
            finally:
                self._fail(Interrupted("interrupted while the dump was loaded"), only_stop=True)
                for thread in threads:
                    thread.join()
            if self._failed is not None:
                raise self._failed
            self.job.after_rows(self._sessions)
            self.job.refresh_the_rest(self._sessions[0])
            if not self._options.large_only:
                settle(self._sessions, self.job)
            self.job.finish(self._sessions[0])
            self.job.tracker.end()
            for session in self._sessions:
                # So that the server's counters include the loaded rows.
                session.connection.execute("SELECT pg_catalog.pg_stat_force_next_flush()")

    def _open(self, builder: Builder, script: Divided) -> None:
        """Execute the operator's part that comes before all else, and admit the builder."""
        builder.note(script)
        builder.renews = runs_when_read(self._summary)
        with builder.operator("create extensions") as connection:
            session = LoadSession(connection, self.job.commands, self.job.loaded, beside_code=True)
            for step in script.first:
                session.enter(step.state)
                session.run(step.command)
            session.enter(())
            builder.admit(connection)

    def _session(self, connection: Connection) -> LoadSession:
        session = LoadSession(connection, self.job.commands, self.job.loaded, self._options.builder)
        self._options.capacity.apply(connection)
        return session

    def parallel(self) -> int:
        """The number of additional processes that the server may use for the worker's task."""
        with self._changed:
            return self._options.capacity.parallel_workers(self._busy)

    def _work(self, session: LoadSession) -> None:
        for tasks in self._tasks():
            try:
                self.job.tracker.begin(tasks)
                self.job.do(tasks, session)
                self.job.tracker.done(tasks)
            except BaseException as error:
                self._fail(error)
                return
            with self._changed:
                for task in tasks:
                    self._schedule.done(task)
                self._busy -= 1
                self._changed.notify_all()

    def _tasks(self) -> Iterator[list[Task]]:
        while True:
            with self._changed:
                while self._failed is None and not self._schedule.finished:
                    tasks = self._schedule.take_some()
                    if tasks:
                        self._busy += 1
                        break
                    self._changed.wait()
                else:
                    return
            yield tasks

    def _fail(self, error: BaseException, *, only_stop: bool = False) -> None:
        """Record the first error, and stop the other workers."""
        with self._changed:
            if self._failed is not None or (only_stop and self._schedule.finished):
                return
            self._failed = error
            self._changed.notify_all()
        self.job.stop()
        for session in self._sessions:
            with suppress(psycopg.Error):  # it may have just ended by itself
                session.connection.cancel_safe(timeout=5)
