"""How each kind of task is done."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from psycopg import sql

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.dump.script import Bulk, Script, Section, State, Step
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.engine import rows
from lastgood.engine.loaded import Loaded
from lastgood.engine.options import Options
from lastgood.engine.session import Later, Session
from lastgood.engine.supply import InPlace, Supply
from lastgood.engine.tasks import Task, Work
from lastgood.engine.tracker import Tracker
from lastgood.errors import Failed, Interrupted
from lastgood.events import Caution
from lastgood.postgres import statistics
from lastgood.repairs import Commands, what

MORE_ROUNDS = 10
_ON_EVENT_TRIGGER = re.compile(rb"(?:ALTER|COMMENT\s+ON)\s+EVENT\s+TRIGGER\b", re.IGNORECASE)
_EVENT_TRIGGERS = (Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE)


@dataclass(slots=True)
class _Division:
    """A section that one session loads, or several: ``left`` of them are not done."""

    left: int
    blocks: Iterable[bytes]


class Job:
    """What the workers share."""

    def __init__(
        self,
        script: Script,
        summary: DumpSummary,
        supply: Supply,
        options: Options,
        parallel: Callable[[], int],
        tracker: Tracker,
    ) -> None:
        self.tracker = tracker
        self._script = script
        self._supply = supply
        self._options = options
        self._parallel = parallel
        self._stop = threading.Event()
        self.commands = Commands(
            options.name, options.rules, emit=options.emit, cancelled=self.stopped, wait=self._stop.wait
        )
        record = self.commands.record
        self.loaded = Loaded(skipped=record.skipped, repaired=record.repaired)
        self._rows_begun = threading.Lock()
        self._prepared = False
        self._lock = threading.Lock()
        self._sent: dict[Relation, rows.Sent] = {}
        self._divisions: dict[int, _Division] = {}
        self._later: list[Command] = []
        self._last: list[tuple[Command, State]] = []
        sections: dict[Relation, int] = {}
        for section in script.sections:
            sections[section.start.relation] = sections.get(section.start.relation, 0) + 1
        made = {step.command.relations[0] for step in self.steps() if step.command.kind is Kind.TABLE}
        self._whole = {
            relation
            for relation, count in sections.items()
            if count == 1 and relation in made and summary.tables[relation].carries_rows
        }
        self._with_statistics = {
            relation
            for step in self.steps()
            if step.command.kind is Kind.STATISTICS_CALL
            for relation in step.command.relations
        }

    def steps(self) -> Iterator[Step]:
        """The script's commands."""
        return (item for item in self._script.items if isinstance(item, Step))

    def stop(self) -> None:
        """Ends what is under way."""
        self._stop.set()

    def stopped(self) -> bool:
        """Whether to end."""
        return self._stop.is_set() or self._options.cancelled()

    def do(self, task: Task, session: Session) -> None:
        """Does one task. Raises Failed, Interrupted, BadPoint."""
        if task.work is Work.READ:
            self._read_back(task, session)
            return
        for item in task.items:
            match item:
                case Section():
                    self._load(item, task, session)
                case Bulk():
                    session.enter(item.state)
                    if item.inserts:
                        self._before_rows(session)
                    for command in self._supply.commands(item):
                        self._check()
                        session.run(command)
                case Step():
                    self._check()
                    self._run(item, task, session)

    def _check(self) -> None:
        """Between two pieces of work. Raises Interrupted; Failed when to go on would put production at risk."""
        self._options.pressure.wait_if_needed(self.stopped)
        if self.stopped():
            raise Interrupted("interrupted while the dump was loaded")

    def _run(self, step: Step, task: Task, session: Session) -> None:
        command = step.command
        if command.verdict is Verdict.SKIP:
            return
        # Event triggers come last: they would fire on what is still to be done (the refreshing of views, say).
        if command.kind in _EVENT_TRIGGERS or _ON_EVENT_TRIGGER.match(command.statement.text):
            self._last.append((command, step.state))
            return
        session.enter(step.state)
        if task.work in (Work.INDEX, Work.KEY):
            session.parallel(self._parallel())
        try:
            session.run(command)
        except Later:
            self._later.append(command)

    def _load(self, section: Section, task: Task, session: Session) -> None:
        relation, parts = section.start.relation, task.parts
        session.enter(section.state)
        self._before_rows(session)
        fresh = parts == 1 and relation in self._whole and section.size >= rows.FREEZE_FROM

        def progress(sent: int) -> None:
            self._check()
            fault.point("build.during_load")
            self._options.pressure.throttle(sent, self.stopped)
            self.tracker.move(task, sent)

        def byte(row: int) -> int | None:
            return self._supply.byte_of(section, row) if isinstance(self._supply, InPlace) else None

        with self._lock:
            division = self._divisions.get(section.number)
            if division is None:
                blocks = self._supply.rows(section)
                division = self._divisions[section.number] = _Division(
                    parts, rows.Shared(blocks) if parts > 1 else blocks
                )
        with self.commands.loading(session.connection, relation, section.start.line):
            sent = rows.send(
                session, section, division.blocks, fresh=fresh, lines=parts > 1, progress=progress, byte=byte
            )
        self.loaded.count(rows=sent.rows)
        with self._lock:
            division.left -= 1
            before = self._sent.setdefault(relation, sent)
            if before is not sent:
                before.add(sent)
            if division.left:
                return
        if self._sent[relation].rows and relation not in self._with_statistics:
            with session.telling(section.start.line, f"statistics of {relation}"):
                session.connection.execute(sql.SQL("ANALYZE {}").format(rows.identifier(relation)))

    def _before_rows(self, session: Session) -> None:
        """The first one to load rows sees to it that nothing stands in their way."""
        with self._rows_begun:
            if not self._prepared:
                with session.telling(0, "checks that call functions"):
                    self.commands.before_rows(session.connection)
                self._prepared = True

    def after_rows(self, sessions: Sequence[Session]) -> None:
        """Gives back what stood in the way of rows."""
        for session in sessions:
            session.enter(())
        with sessions[0].telling(0, "checks that call functions"):
            self.commands.after_rows([session.connection for session in sessions])

    def caution(self, text: str) -> None:
        """Tells the operator of something to look at."""
        self._options.emit(Caution(text))

    def _read_back(self, task: Task, session: Session) -> None:
        section = task.items[0]
        assert isinstance(section, Section)
        reading, relation = self._options.reading, section.start.relation
        sent = self._sent[relation]
        if reading is None or relation not in self._whole or not section.start.columns or relation in reading.left_out:
            return
        self._check()
        session.pin(reading.settings)
        if rows.is_there(session, section, sent, self.stopped, partial(self.tracker.move, task)):
            self.loaded.same[relation] = sent.rows

    def refresh_the_rest(self, session: Session) -> None:
        """A view may read another through a function, which no order tells: go round until nothing moves."""
        for _ in range(MORE_ROUNDS):
            waiting, self._later = self._later, []
            if not waiting:
                return
            for command in waiting:
                try:
                    session.run(command)
                except Later:
                    self._later.append(command)
            if len(self._later) == len(waiting):
                break
        if self._later:
            first = self._later[0]
            raise Failed(
                f'cannot fill {what(first)} (line {first.statement.line} of "{self._options.name}"): '
                "it reads another view that is not filled, and no order of filling them works",
                hint="Look at the functions that its definition calls.",
            )

    def finish(self, session: Session) -> None:
        """What comes last of all."""
        for command, state in self._last:
            session.enter(state)
            session.run(command)


# Those whose statistics are not gathered with their rows: whole inheritance trees, views, and expressions that an index
# or a statistics object brought later.
_WITHOUT_STATISTICS = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (c.relkind = 'p' OR (c.relkind = 'm' AND c.relispopulated)
       OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
       OR EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid)
       OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indexprs IS NOT NULL)
       OR c.reltuples < 0)
ORDER BY c.relpages DESC
"""


def settle(sessions: Sequence[Session], job: Job) -> None:
    """Gathers the planner's statistics where they were not gathered with the rows."""
    found = sessions[0].connection.execute(_WITHOUT_STATISTICS).fetchall()
    left = [Relation(schema, name) for schema, name in found]
    lock = threading.Lock()
    job.tracker.statistics(len(left))

    def work(session: Session) -> None:
        while not job.stopped():
            with lock:
                if not left:
                    return
                relation = left.pop(0)
            began = time.monotonic()
            with session.telling(0, f"statistics of {relation}"):
                told = statistics.analyze(session.connection, rows.identifier(relation))
            job.tracker.analyzed(time.monotonic() - began)
            if told is not None:
                job.caution(f"the planner has no statistics of {relation}: {told}")

    with ThreadPoolExecutor(len(sessions), thread_name_prefix="lastgood-analyze") as pool:
        list(pool.map(work, sessions))
