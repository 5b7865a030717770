"""Loads a dump into an empty database of its own: the reader's entries, in order, on one connection.

Each command is a transaction of its own, so a dump of any size needs few locks; rows go in through COPY, frozen
(they need no second pass by VACUUM, and foreign keys are checked on all-visible pages). The parallel engine takes
this module's place behind the same function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.dump.reader import Entry, Rows, RowsEnd, RowsStart
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.errors import Failed, Interrupted
from lastgood.events import Emit, Progress
from lastgood.postgres.server import Connection
from lastgood.repairs import Commands, Repaired, Rules, what

TUNING: tuple[tuple[LiteralString, str], ...] = (("maintenance_work_mem", "256MB"), ("synchronous_commit", "off"))
MORE_ROUNDS = 10
# What a dump has after its rows and its indexes.
_AFTER_INDEXES = frozenset({Kind.RULE, Kind.TRIGGER, Kind.FOREIGN_KEY, Kind.POLICY, Kind.ROW_SECURITY, Kind.REFRESH})
_ON_EVENT_TRIGGER = re.compile(rb"(?:ALTER|COMMENT\s+ON)\s+EVENT\s+TRIGGER\b", re.IGNORECASE)


@dataclass(slots=True)
class Loaded:
    """What a load did. ``skipped``: (what, why) → (first line, how many) of commands left out by rule, or that the
    server may refuse and did. ``repaired``: what is there in another way than the dump has it."""

    commands: int = 0
    rows: int = 0
    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    repaired: list[Repaired] = field(default_factory=list)


class Loader:
    """One load. ``connection`` is to the empty database, in autocommit mode, and is good for nothing else after.

    ``position`` tells how many bytes of the file on disk (``size``) were read, for the progress that is emitted.
    ``rules`` say what may be left out or repaired.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        name: str,
        position: Callable[[], int],
        size: int,
        rules: Rules,
        emit: Emit,
        cancelled: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._name = name
        self._position = position
        self._size = size
        self._emit = emit
        self._cancelled = cancelled
        self._created: set[Relation] = set()
        self._filled: set[Relation] = set()
        self._checks_put_off = False
        self._later: list[Command] = []
        self._last: list[Command] = []
        self._commands = Commands(name, rules, emit=emit, cancelled=cancelled)
        self.loaded = Loaded(skipped=self._commands.record.skipped, repaired=self._commands.record.repaired)

    def load(self, entries: Iterator[Entry]) -> Loaded:
        """Runs everything. Raises Failed at the first error that no rule allows, Interrupted when cancelled."""
        for name, value in TUNING:
            self._connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), value))
        for entry in entries:
            if self._cancelled():
                raise Interrupted("interrupted while the dump was loaded")
            if isinstance(entry, Command):
                self._command(entry)
            elif isinstance(entry, RowsStart):
                self._rows(entry, entries)
        self._bring_checks_back()
        self._refresh_the_rest()
        # Event triggers come last: they would fire on what is still to be done (the refreshing of views, say).
        for command in self._last:
            self._run(command)
        return self.loaded

    def _command(self, command: Command) -> None:
        if command.verdict is Verdict.SKIP:
            if command.kind is not Kind.PSQL:
                self._commands.leave_out(command, command.reason)
            return
        if command.kind is Kind.TABLE:
            self._created.update(command.relations[:1])
        if command.kind in (Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE) or _ON_EVENT_TRIGGER.match(
            command.statement.text
        ):
            self._last.append(command)
            return
        self._run(command)

    def _run(self, command: Command) -> None:
        """Runs one command; a view that waits for another is put back."""
        if command.kind in _AFTER_INDEXES:
            self._bring_checks_back()
        if self._commands.run(self._connection, command):
            self.loaded.commands += 1
        else:
            self._later.append(command)

    def _bring_checks_back(self) -> None:
        if self._checks_put_off:
            self._checks_put_off = False
            self._commands.after_rows(self._connection)

    def _refresh_the_rest(self) -> None:
        """A view may read another through a function, which no order tells: go round until nothing moves."""
        for _ in range(MORE_ROUNDS):
            waiting, self._later = self._later, []
            if not waiting:
                return
            for command in waiting:
                self._run(command)
            if len(self._later) == len(waiting):
                break
        if self._later:
            first = self._later[0]
            raise Failed(
                f'cannot fill {what(first)} (line {first.statement.line} of "{self._name}"): it reads another view '
                "that is not filled, and no order of filling them works",
                hint="Look at the functions that its definition calls.",
            )

    def _rows(self, start: RowsStart, entries: Iterator[Entry]) -> None:
        relation = start.relation
        named = f"rows of {relation}"
        fresh = relation in self._created and relation not in self._filled
        if not self._filled:
            self._checks_put_off = True
            self._commands.before_rows(self._connection)
        if relation not in self._filled:
            self._commands.make_room(self._connection, relation, start.line)
        self._filled.add(relation)
        copy = start.copy
        try:
            with self._connection.transaction():
                if fresh and self._ordinary(relation):
                    # Emptied in this transaction, so that its rows may be stored frozen, and need no WAL where
                    # wal_level is minimal.
                    self._connection.execute(sql.SQL("TRUNCATE ONLY {}").format(_identifier(relation)))
                    copy += b" WITH (FREEZE)"
                with self._connection.cursor() as cursor, cursor.copy(copy) as stream:
                    for entry in entries:
                        if isinstance(entry, RowsEnd):
                            break
                        assert isinstance(entry, Rows)
                        if self._cancelled():
                            raise Interrupted("interrupted while the dump was loaded")
                        stream.write(entry.data)
                        self.loaded.rows += entry.rows
                        fault.point("build.during_load")
                        self._emit(Progress("build", self._position(), self._size, "bytes", self.loaded.rows, named))
        except psycopg.Error as error:
            line = start.line + _row_in(error)
            raise self._commands.failed(error, line, named, context="copy") from error

    def _ordinary(self, relation: Relation) -> bool:
        """Whether it is an ordinary table: a partitioned one can't take frozen rows."""
        found = self._connection.execute(
            "SELECT relkind = 'r' FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)",
            [_identifier(relation).as_string(self._connection)],
        ).fetchone()
        return found is not None and bool(found[0])


def _identifier(relation: Relation) -> sql.Identifier:
    return sql.Identifier(relation.schema, relation.name) if relation.schema else sql.Identifier(relation.name)


def _row_in(error: psycopg.Error) -> int:
    """Which row of the block the server complains of, from its context line ``COPY t, line 7, column x``; 0 if none."""
    found: Any = re.search(r"line (\d+)", error.diag.context or "")
    return int(found[1]) if found else 0
