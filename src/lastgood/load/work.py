"""Execution of each kind of task."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.dump.script import Bulk, Script, ScriptStep, Section, State
from lastgood.dump.statements import Command, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed
from lastgood.events import Caution
from lastgood.load import apart, rows
from lastgood.load.builder import is_last
from lastgood.load.loaded import Loaded
from lastgood.load.options import Options
from lastgood.load.repairs import ALONE, Commands, extensions, what
from lastgood.load.session import Later, LoadSession
from lastgood.load.supply import InPlace, Supply
from lastgood.load.tasks import Task, Work, small_tables, whole_tables, with_statistics
from lastgood.load.tracker import Tracker
from lastgood.postgres import statistics

MORE_ROUNDS = 10
TOGETHER, TOGETHER_BYTES = 100, 1 << 16
NOT_MADE = "neither the files of the dump nor their extensions create this table"


@dataclass(slots=True)
class _Division:
    """A section that one or more sessions load: ``left`` of them are not done, and the next one gets part ``next``.
    They share ``blocks``, or each has one of the ``spans`` of the file."""

    left: int
    blocks: Iterable[bytes] = ()
    spans: Sequence[range] = ()
    next: int = 0


@dataclass(slots=True)
class _ReadBack:
    """A table that is read back in parts: ``left`` of them are not done, and the next part is ``next``."""

    left: int
    sent: rows.Sent | None = None
    next: int = 0


class Job:
    """The state that the workers share."""

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
        self.context = options.context.until(self._stop.is_set)
        builder = options.builder
        self.commands = Commands(options.name, options.rules, self.context, wait=self._stop.wait, builder=builder)
        record = self.commands.record
        self.loaded = Loaded(skipped=record.skipped, repaired=record.repaired)
        self._rows_begun = threading.Lock()
        self._prepared = False
        self._lock = threading.Lock()
        self._sent: dict[Relation, rows.Sent] = {}
        self._divisions: dict[int, _Division] = {}
        self._read: dict[Relation, _ReadBack] = {}
        self._later: list[Command] = []
        self._last: list[tuple[Command, State]] = []
        self._whole = whole_tables(script.items, summary)
        self._rows: dict[Relation, int] = {}
        for section in script.sections:
            self._rows.setdefault(section.start.relation, section.start.line)
        self._unsure = summary.rows_for_extensions
        self._absent: frozenset[Relation] = frozenset()
        self._with_statistics = with_statistics(script.items)

    def steps(self) -> Iterator[ScriptStep]:
        """The script's commands."""
        return (item for item in self._script.items if isinstance(item, ScriptStep))

    def has_statistics(self, relation: Relation) -> bool:
        """Whether the dump has statistics of a table."""
        return relation in self._with_statistics

    @property
    def schemas(self) -> list[str] | None:
        """The schemas that are loaded; None for a whole database."""
        within = self._options.rules.within
        return None if within is None else list(within)

    def small_tables(self) -> frozenset[Relation]:
        """The tables whose statistics are gathered last."""
        return small_tables(self._script)

    def stop(self) -> None:
        """Stop all work."""
        self._stop.set()

    def do(self, tasks: Sequence[Task], session: LoadSession) -> None:
        """Execute tasks that do not depend on each other. Raises Failed, Interrupted, BadPoint."""
        commands: list[ScriptStep] = []
        for task in tasks:
            if task.work is Work.READ:
                self._read_back(task, session)
                continue
            if task.work is Work.STATISTICS:
                self._gather(task, session)
                continue
            if len(tasks) == 1 and task.work in (Work.INDEX, Work.KEY):
                session.parallel(self._parallel())
            for item in task.items:
                if isinstance(item, ScriptStep):
                    commands.append(item)
                    continue
                self._run(commands, session)
                commands = []
                if isinstance(item, Section):
                    self._load(item, task, session)
                else:
                    self._data(item, session)
        self._run(commands, session)

    def _data(self, bulk: Bulk, session: LoadSession) -> None:
        session.enter(bulk.state)
        if bulk.inserts:
            self._before_rows(session)
        session.run_data(self._unless_stopped(self._supply.commands(bulk)))

    def _unless_stopped(self, commands: Iterable[Command]) -> Iterator[Command]:
        for command in commands:
            self._check()
            yield command

    def _check(self) -> None:
        """Pause or stop between two pieces of work. Raises Interrupted; Failed when continuing would put production at
        risk."""
        self._options.pressure.wait_if_needed(self.context.cancelled)
        self.context.check("interrupted while the dump was loaded")

    def _run(self, steps: Iterable[ScriptStep], session: LoadSession) -> None:
        """Run commands in their order: several in one message if they have the same state."""
        together: list[Command] = []
        state: State = ()
        size = 0
        for step in steps:
            command = step.command
            if command.verdict is Verdict.SKIP:
                continue
            # Event triggers come last: they would fire on later commands (REFRESH, for example).
            if is_last(command):
                self._last.append((command, step.state))
                continue
            full = len(together) >= TOGETHER or size > TOGETHER_BYTES
            alone = command.kind in ALONE or (together and together[0].kind in ALONE)
            if together and (alone or full or step.state is not state):
                self._together(together, state, session)
                together, size = [], 0
            state = step.state
            together.append(command)
            size += len(command.statement.text)
        if together:
            self._together(together, state, session)

    def _together(self, commands: Sequence[Command], state: State, session: LoadSession) -> None:
        self._check()
        session.enter(state)
        try:
            session.run_together(commands)
        except Later:
            self._later.extend(commands)  # REFRESH is always alone in its message

    def _load(self, section: Section, task: Task, session: LoadSession) -> None:
        relation, parts = section.start.relation, task.parts
        session.enter(section.state)
        self._before_rows(session)
        if relation in self._absent:
            self._leave_out(section)
            return
        fresh = parts == 1 and relation in self._whole and section.size >= rows.FREEZE_FROM

        def progress(sent: int) -> None:
            self._check()
            fault.point("build.during_load")
            self._options.pressure.throttle(sent, self.context.cancelled)
            self.tracker.move(task, sent)

        def byte(row: int) -> int | None:
            return self._supply.byte_of(section, row) if isinstance(self._supply, InPlace) else None

        with self._lock:
            division = self._divisions.get(section.number)
            if division is None:
                division = self._divisions[section.number] = self._divided(section, parts)
            span = division.spans[division.next] if division.spans else None
            division.next += 1
        with self.commands.loading(session.connection, relation):
            sent = None
            if span is not None and isinstance(self._supply, InPlace):
                blocks: Iterable[bytes] = self._supply.span(span)
                with suppress(apart.Unable):
                    path = self._supply.path
                    sent = rows.send_apart(
                        session, section, path, span, cancelled=self.context.cancelled, progress=progress
                    )
            else:
                blocks = division.blocks
            if sent is None:
                sent = rows.send(session, section, blocks, fresh=fresh, lines=parts > 1, progress=progress, byte=byte)
        self.loaded.count(rows=sent.rows)
        with self._lock:
            division.left -= 1
            before = self._sent.setdefault(relation, sent)
            if before is not sent:
                before.add(sent)
            if division.left:
                return

    def _leave_out(self, section: Section) -> None:
        """Skip the rows of a table that neither the files nor their extensions created."""
        for _ in self._supply.rows(section):
            self._check()  # read them all: in a stream the next section comes after them
        self.commands.record.add_skipped(f"rows of {section.start.relation}", NOT_MADE, section.start.line)

    def _divided(self, section: Section, parts: int) -> _Division:
        if parts > 1 and isinstance(self._supply, InPlace) and apart.pays(section.size // parts):
            return _Division(parts, spans=self._supply.spans(section, parts))
        blocks = self._supply.rows(section)
        return _Division(parts, rows.Shared(blocks) if parts > 1 else blocks)

    def _before_rows(self, session: LoadSession) -> None:
        """Prepare the database for rows, before the first session loads any."""
        with self._rows_begun:
            if not self._prepared:
                with session.errors_at(0, "checks that call functions"):
                    self._absent = extensions.absent(session.connection, self._unsure)
                    self.commands.before_rows(session.connection, self._rows)
                self._prepared = True

    def after_rows(self, sessions: Sequence[LoadSession]) -> None:
        """Restore what was removed before the rows."""
        for session in sessions:
            session.enter(())
        with sessions[0].errors_at(0, "checks that call functions"):
            self.commands.after_rows([session.connection for session in sessions])

    def _gather(self, task: Task, session: LoadSession) -> None:
        section = task.items[0]
        assert isinstance(section, Section)
        relation = section.start.relation
        if relation in self._absent:
            return
        self._check()
        session.enter(section.state)
        self.analyze(session, relation, section.start.line)

    def analyze(self, session: LoadSession, relation: Relation, line: int) -> None:
        """Gather the planner's statistics of a table; a failure is a Caution."""
        with session.errors_at(line, f"statistics of {relation}"):
            failure = statistics.analyze(session.connection, rows.identifier(relation))
        if failure is not None:
            self.caution(f"the planner has no statistics of {relation}: {failure}")

    def caution(self, text: str) -> None:
        """Emit a Caution for the operator."""
        self.context.emit(Caution(text))

    def _read_back(self, task: Task, session: LoadSession) -> None:
        section = task.items[0]
        assert isinstance(section, Section)
        reading, relation = self._options.reading, section.start.relation
        sent = self._sent[relation]
        if reading is None or not section.start.columns or relation in reading.left_out:
            return
        self._check()
        session.pin(reading.settings)
        with self._lock:
            found = self._read.setdefault(relation, _ReadBack(task.parts))
            part, found.next = found.next, found.next + 1
        pages = None
        with session.errors_at(0, f"reading back {relation}"):
            if task.parts > 1:
                pages = rows.pages_of(session.connection, relation, part, task.parts)
        came = rows.read_back(
            session,
            section,
            pages,
            whole=sent.lines is None,
            separate=apart.pays(section.size // task.parts),
            cancelled=self.context.cancelled,
            progress=partial(self.tracker.move, task),
        )
        with self._lock:
            found.left -= 1
            if found.sent is None:
                found.sent = came
            else:
                found.sent.add(came)
            if not found.left and found.sent.same(sent):
                self.loaded.same[relation] = sent.rows

    def refresh_the_rest(self, session: LoadSession) -> None:
        """Refresh the remaining views in rounds until none succeeds: a view may read another through a function."""
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
        builder = self._options.builder
        if self._later and builder is not None and builder.unpopulated:
            builder.unpopulated += [command.relations[0] for command in self._later]
        elif self._later:
            first = self._later[0]
            raise Failed(
                f'cannot refresh {what(first)} (line {first.statement.line} of "{self._options.name}"): '
                "it reads another view that is not populated, and they depend on each other in a cycle",
                hint="Check the functions that its definition calls.",
            )

    def finish(self, session: LoadSession) -> None:
        """Run the commands that come last of all."""
        for command, state in self._last:
            session.enter(state)
            session.run(command)
