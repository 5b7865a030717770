"""Load the readable part of a damaged dump, row by row if necessary. What the server refuses is left out and recorded.

This load is neither frozen, verified nor fast; the package ``load`` is for valid dumps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import pq, sql

from lastgood.context import Context
from lastgood.damaged.confined import OperatorsPart
from lastgood.dump.entries import Entry, Rows, RowsEnd, RowsStart
from lastgood.dump.names import Relation
from lastgood.dump.readable import SHOWN, Omission
from lastgood.dump.statements import Command, Kind, Verdict
from lastgood.events import Progress
from lastgood.load.repairs import what
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Connection

# After so many refused rows the rest of the table is left out too: each row costs a command of its own.
MOST_REFUSED = 10_000
# Classes of SQLSTATE: invalid data, and constraint violations. No other error is about a row.
_ABOUT_A_ROW = ("22", "23")
# Classes of SQLSTATE: failures of the connection, the machine or the server; the load cannot continue.
_FATAL = ("08", "53", "57", "58")
_LATE = frozenset({Kind.REFRESH, Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE})
_FOREIGN_KEY_VIOLATION = "23503"
# Dates are read under the server's own settings, as in a session of psql.
_AS_PSQL = "RESET DateStyle; RESET IntervalStyle"


@dataclass(slots=True)
class TableLoad:
    """The result for one table: ``refused`` rows, the first few of them, and ``given_up``: why the rest was left out,
    or empty."""

    rows: int = 0
    refused: int = 0
    first: list[Omission] = field(default_factory=list)
    given_up: str = ""


class ReadableLoader:
    """One load. ``connection`` is to the new database, in autocommit mode. ``progress`` returns (bytes read, bytes in
    total). ``operators``: what ``connection``'s role leaves to the operator; None if it is the operator."""

    def __init__(
        self,
        connection: Connection,
        progress: Callable[[], tuple[int, int]],
        context: Context,
        operators: OperatorsPart | None = None,
    ) -> None:
        self._connection = connection
        self._operators = operators
        self._progress = progress
        self._context = context
        self._late: list[Command] = []
        self._changed = False
        self.tables: dict[Relation, TableLoad] = {}
        self.commands: list[Omission] = []
        self.not_valid: list[str] = []

    def load(self, entries: Iterator[Entry]) -> None:
        """Run every command that the server accepts. Raises Failed when the load cannot continue, Interrupted."""
        self._connection.execute(_AS_PSQL)
        start: RowsStart | None = None
        for entry in entries:
            self._check_cancelled()
            match entry:
                case RowsStart():
                    if self._operators is not None:
                        self._operators.before_code()
                    start = entry
                    self.tables.setdefault(entry.relation, TableLoad())
                case Rows() if start is not None:
                    self._rows(start, self.tables[start.relation], entry)
                case RowsEnd():
                    start = None
                case Command() if entry.verdict is Verdict.RUN:
                    if self._operators is not None and self._operators.takes_over(entry):
                        continue
                    if entry.kind in _LATE:
                        self._late.append(entry)
                    elif entry.kind is Kind.INSERT:
                        self._insert(entry)
                    elif (error := self._run(entry, entry.statement.text)) is not None:
                        self._refused(entry, error)
                    elif entry.kind in (Kind.CHANGE, Kind.DROP):
                        self._follow(entry)
        self._rest()
        if self._changed:
            self._count()

    def _check_cancelled(self) -> None:
        self._context.check("interrupted while the dump was loaded")

    # Commands ----------------------------------------------------------------------------------------------------

    def _run(self, command: Command, text: bytes) -> psycopg.Error | None:
        definitions = self._operators.builder.definitions if self._operators is not None else None
        asking = definitions.asking(command, self._connection) if definitions is not None else b""
        try:
            cursor = self._connection.execute(text + asking)
            if definitions is not None and asking:
                definitions.note(cursor)
        except psycopg.Error as error:
            self._check(error, f"load line {command.statement.line} ({what(command)})")
            if self._connection.info.transaction_status == pq.TransactionStatus.INERROR:
                self._connection.execute("ROLLBACK")
            return error
        return None

    def _insert(self, command: Command) -> None:
        """An INSERT that is more than rows of plain values."""
        table = self.tables.setdefault(command.relations[0], TableLoad())
        try:
            table.rows += max(self._connection.execute(command.statement.text).rowcount, 0)
        except psycopg.Error as error:
            self._check(error, f"load line {command.statement.line} ({what(command)})")
            self._refuse(table, command.statement.line, error)

    def _follow(self, command: Command) -> None:
        """Follow a DROP or a rename: loaded rows may be removed, or be in a table with another name."""
        self._changed = True
        if isinstance(command.detail, Relation) and command.relations[0] in self.tables:
            self.tables[command.detail] = self.tables.pop(command.relations[0])

    def _count(self) -> None:
        """Count the rows of each table, after commands other than loads may have changed them."""
        for relation, table in list(self.tables.items()):
            name = sql.Identifier(relation.schema, relation.name) if relation.schema else sql.Identifier(relation.name)
            row = self._connection.execute("SELECT pg_catalog.to_regclass(%s)", [name.as_string()]).fetchone()
            if row is None or row[0] is None:
                if not table.given_up and not table.refused:
                    del self.tables[relation]  # the file dropped it
                continue
            row = self._connection.execute(sql.SQL("SELECT pg_catalog.count(*) FROM {}").format(name)).fetchone()
            table.rows = row[0] if row is not None else 0

    def _check(self, error: psycopg.Error, doing: str) -> None:
        """Raise errors that end the whole load."""
        self._check_cancelled()
        if self._connection.closed or (error.sqlstate or "08").startswith(_FATAL):
            raise server_errors.failed(error, doing) from error

    def _refused(self, command: Command, error: psycopg.Error) -> None:
        state = error.sqlstate
        if state is not None and (state in command.optional_sqlstates or state == "42P06"):
            return
        if self._operators is not None and self._operators.takes(command, error):
            return
        without_match = state == _FOREIGN_KEY_VIOLATION and command.kind is Kind.FOREIGN_KEY
        if without_match and self._run(command, command.statement.text + b"\nNOT VALID") is None:
            self.not_valid.append(what(command))
            return
        self.commands.append(Omission(command.statement.line, _reason(error), what(command)))

    def _rest(self) -> None:
        """Populate views until no other can be populated; create event triggers last, because they would fire."""
        views = [command for command in self._late if command.kind is Kind.REFRESH]
        while views:
            failed = [(view, error) for view in views if (error := self._run(view, view.statement.text)) is not None]
            if len(failed) == len(views):
                for view, error in failed:
                    self._refused(view, error)
                break
            views = [view for view, _ in failed]
        for command in [late for late in self._late if late.kind is not Kind.REFRESH]:
            if (error := self._run(command, command.statement.text)) is not None:
                self._refused(command, error)

    # Rows --------------------------------------------------------------------------------------------------------

    def _rows(self, start: RowsStart, table: TableLoad, entry: Rows) -> None:
        waiting = [(_lines(entry.data), entry.line)]
        while waiting and not table.given_up:
            self._check_cancelled()
            rows, line = waiting.pop()
            error = self._copy(start, rows)
            if error is None:
                table.rows += len(rows)
            elif not (error.sqlstate or "").startswith(_ABOUT_A_ROW):
                table.given_up = _reason(error)
            elif len(rows) == 1:
                self._refuse(table, line, error)
            else:
                # Split at the line that the server reports, otherwise in the middle, until the bad row is found.
                at = server_errors.row_in(error)
                cut = at - 1 if 1 < at <= len(rows) else 1 if at == 1 else len(rows) // 2
                waiting += [(rows[cut:], line + cut), (rows[:cut], line)]
        done, size = self._progress()
        read = sum(each.rows for each in self.tables.values())
        self._context.emit(Progress("build", done, size, "bytes", rows=read, detail=f"rows of {start.relation}"))

    def _copy(self, start: RowsStart, rows: list[bytes]) -> psycopg.Error | None:
        try:
            with self._connection.cursor() as cursor, cursor.copy(start.copy) as stream:
                stream.write(b"".join(rows))
        except psycopg.Error as error:
            self._check(error, f"load the rows of {start.relation}")
            return error
        return None

    def _refuse(self, table: TableLoad, line: int, error: psycopg.Error) -> None:
        table.refused += 1
        if len(table.first) < SHOWN:
            table.first.append(Omission(line, _reason(error)))
        if table.refused >= MOST_REFUSED:
            table.given_up = f"the server refused {MOST_REFUSED:,} of its rows"


def _lines(data: bytes) -> list[bytes]:
    return [row + b"\n" for row in data.split(b"\n")[:-1]]


def _reason(error: psycopg.Error) -> str:
    return error.diag.message_primary or type(error).__name__
