"""Loads a dump into an empty database of its own: the reader's entries, in order, on one connection.

Each command is a transaction of its own, so a dump of any size needs few locks; rows go in through COPY, frozen
(they need no second pass by VACUUM, and foreign keys are checked on all-visible pages). The parallel engine takes
this module's place behind the same function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.dump.reader import Entry, Rows, RowsEnd, RowsStart
from lastgood.dump.statements import Command, Extension, Kind, Verdict
from lastgood.errors import Failed, Interrupted, LastgoodError
from lastgood.events import Emit, Progress
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Connection

TUNING: tuple[tuple[LiteralString, str], ...] = (("maintenance_work_mem", "256MB"), ("synchronous_commit", "off"))
MORE_ROUNDS = 10
_CONTEXTS: dict[Kind, server_errors.Context] = {Kind.REFRESH: "refresh", Kind.FOREIGN_KEY: "constraint"}
_ON_EVENT_TRIGGER = re.compile(rb"(?:ALTER|COMMENT\s+ON)\s+EVENT\s+TRIGGER\b", re.IGNORECASE)


@dataclass(slots=True)
class Loaded:
    """What a load did. ``skipped``: (what, why) → (first line, how many) of commands left out by rule, or that the
    server may refuse and did."""

    commands: int = 0
    rows: int = 0
    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)

    def skip(self, command: Command, why: str) -> None:
        """Records a command that was left out."""
        key = (what(command), why)
        line, count = self.skipped.get(key, (command.statement.line, 0))
        self.skipped[key] = (line, count + 1)


class Loader:
    """One load. ``connection`` is to the empty database, in autocommit mode, and is good for nothing else after.

    ``position`` tells how many bytes of the file on disk (``size``) were read, for the progress that is emitted.
    ``extensions`` are the versions to install (those of the live database); others get the server's default.
    ``text_of`` is what to run for a command; None for one that is left for later.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        name: str,
        position: Callable[[], int],
        size: int,
        extensions: Mapping[str, str],
        emit: Emit,
        cancelled: Callable[[], bool],
        text_of: Callable[[Command], bytes | None] = lambda command: command.statement.text,
    ) -> None:
        self._connection = connection
        self._text_of = text_of
        self._name = name
        self._position = position
        self._size = size
        self._extensions = extensions
        self._emit = emit
        self._cancelled = cancelled
        self._created: set[Relation] = set()
        self._filled: set[Relation] = set()
        self._later: list[Command] = []
        self._last: list[Command] = []
        self.loaded = Loaded()

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
        self._refresh_the_rest()
        # Event triggers come last: they would fire on what is still to be done (the refreshing of views, say).
        for command in self._last:
            self._run(command)
        return self.loaded

    def _command(self, command: Command) -> None:
        if command.verdict is Verdict.SKIP:
            if command.kind is not Kind.PSQL:
                self.loaded.skip(command, command.reason)
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
        """Runs one command; a refusal that a rule allows is recorded, a view that waits for another is put back."""
        text = self._text(command)
        if text is None:
            return
        try:
            self._connection.execute(text)
        except psycopg.Error as error:
            context = _CONTEXTS.get(command.kind, "any")
            if context == "refresh" and server_errors.policy_of(error, context) is server_errors.Policy.REQUEUE:
                self._later.append(command)
                return
            if error.sqlstate is not None and error.sqlstate in command.optional_sqlstates:
                said = error.diag.message_primary or str(error)
                self.loaded.skip(command, said)
                return
            raise self._failed(error, command.statement.line, what(command), context) from error
        self.loaded.commands += 1

    def _text(self, command: Command) -> bytes | None:
        """The command, an extension's with the version that the live database has."""
        text = self._text_of(command)
        extension = command.detail
        if (
            text is not None
            and isinstance(extension, Extension)
            and extension.version is None
            and extension.name in self._extensions
        ):
            return text + b" VERSION " + sql.Literal(self._extensions[extension.name]).as_bytes(self._connection)
        return text

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
            raise self._failed(error, start.line + _row_in(error), named, "copy") from error

    def _ordinary(self, relation: Relation) -> bool:
        """Whether it is an ordinary table: a partitioned one can't take frozen rows."""
        found = self._connection.execute(
            "SELECT relkind = 'r' FROM pg_catalog.pg_class WHERE oid = to_regclass(%s)",
            [_identifier(relation).as_string(self._connection)],
        ).fetchone()
        return found is not None and bool(found[0])

    def _failed(self, error: psycopg.Error, line: int, named: str, context: server_errors.Context) -> LastgoodError:
        return server_errors.failed(error, f'load line {line} of "{self._name}" ({named})', context=context)


def what(command: Command) -> str:
    """A command in a few words: ``index public.a_b_idx``, ``grant on public.t``."""
    if command.creates:
        return f"{command.creates[0].kind} {command.creates[0].identity}"
    return f"{command.kind} on {command.relations[0]}" if command.relations else str(command.kind)


def _identifier(relation: Relation) -> sql.Identifier:
    return sql.Identifier(relation.schema, relation.name) if relation.schema else sql.Identifier(relation.name)


def _row_in(error: psycopg.Error) -> int:
    """Which row of the block the server complains of, from its context line ``COPY t, line 7, column x``; 0 if none."""
    found: Any = re.search(r"line (\d+)", error.diag.context or "")
    return int(found[1]) if found else 0
