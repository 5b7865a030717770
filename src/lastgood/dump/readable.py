"""A read of a damaged dump that omits the damaged parts, and reports them.

It continues where ``reader`` would stop: invalid rows and commands are left out, and after a missing end it continues
at the next header, which pg_dump writes before each object. It is for a separate database, never for one that replaces
the live one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from lastgood.dump.archive.parts import texts
from lastgood.dump.entries import Entry, Rows, RowsEnd, RowsStart
from lastgood.dump.files.file_set import FileSet
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.files.parts import rows_first
from lastgood.dump.lexer import patterns
from lastgood.dump.lexer.lexer import Lexer
from lastgood.dump.lexer.repair import repaired
from lastgood.dump.lexer.tokens import Comment, CopyData, CopyEnd, CopyStart, MetaCommand, Noise, Statement, Token
from lastgood.dump.names import Relation, shown
from lastgood.dump.reader import DumpReading, ReaderSource
from lastgood.dump.rows import encodings
from lastgood.dump.rows.copy_section import CopySection
from lastgood.dump.signs.text_state import PsqlConditions
from lastgood.dump.statements import Command, Kind, PsqlCommand, Setting, Verdict
from lastgood.errors import BadPoint, Corrupt, Foreign, Unsafe

SHOWN = 10
LIMIT = 1 << 26
# Without pg_dump's headers there is no place to continue, so a text of another program may be as long as a value.
LIMIT_OF_OTHERS = 1 << 30
# Represents a NUL byte: these two bytes occur in no valid row of any encoding.
_NUL = b"\xff\r"
_HEADER = re.compile(rb"^-- (?:Name|Data for Name|Statistics for Name): .*; Type: .*; Schema: ", re.MULTILINE)
_SKIPPED_AHEAD = 1 << 9
_REDEFINES = re.compile(rb"(?i)(?:alter|create|drop)\b")


@dataclass(frozen=True, slots=True)
class Omission:
    """A command or a row that was left out, and why; ``what`` is empty for a row."""

    line: int
    why: str
    what: str = ""


@dataclass(slots=True)
class TableDamage:
    """The rows of a table that were left out: their number, the first few, and in ``cut`` why more may be missing."""

    left_out: int = 0
    first: list[Omission] = field(default_factory=list)
    cut: str = ""

    def add(self, line: int, why: str) -> None:
        """Record one row."""
        self.left_out += 1
        if len(self.first) < SHOWN:
            self.first.append(Omission(line, why))


class ReadableReading(DumpReading):
    """A read of a damaged dump. Iterate to the end, then use ``summary``, ``damage`` (sentences), ``commands``,
    ``tables`` and ``maker`` (the program that wrote it, if known and not pg_dump).

    ``database`` selects one from a cluster dump. Raises BadPoint only if no database was selected, or if the dump can't
    be opened at all.
    """

    def __init__(self, source: DumpSource, *, database: str | None = None) -> None:
        super().__init__(source, database=database, accept_unmarked=True, accept_partial=True, skim=False)
        self._dump = source
        self.damage: list[str] = []
        self.commands: list[Omission] = []
        self.tables: dict[Relation, TableDamage] = {}
        self.maker = ""
        self._again: tuple[bytes, int] | None = None

    def __iter__(self) -> Iterator[Entry]:
        held: list[Command] = []
        for text in texts(self._dump, self._note_damage):
            self._begin_text()
            alone = not isinstance(self._dump, FileSet)
            yield from rows_first(self._text(text), held, alone=alone, of_pg_dump=lambda: self._marked)
        yield from held

    def _text(self, source: ReaderSource) -> Iterator[Entry]:
        known = len(self.damage)
        self._conditions, self._chosen = PsqlConditions(), ""
        for token in self._tokens(source):
            if self.summary.cluster and self._wanted is None:
                raise BadPoint(
                    "cannot use the dump: it is of a whole cluster, and no database was selected",
                    hint="Select one with --database.",
                )
            yield from self._guarded(token)
        if self._section is not None:
            yield from self._end_rows("the dump ends within its rows")
        if self._open or len(self.damage) > known:
            self._empty = None  # only its heading was read: whether it had rows is unknown
        yield from self._flush()
        if self._open and not isinstance(self._dump, FileSet) and self._dump.kind == "plain":
            self._note_damage(Corrupt("it ends without its footer"))
        self.summary.notes += [*self._noise.notes(), *self._restricted.cautions()]
        self.maker = self.maker or self._foreign.maker

    @property
    def has_empty_sections(self) -> bool:
        """Whether a table without rows has an empty section, as in pg_dump's own files."""
        return self.summary.marked and self.summary.has_data and self._foreign.behind is None

    def _note_damage(self, error: BadPoint) -> None:
        if error.message not in self.damage:
            self.damage.append(error.message)

    # Tokens ------------------------------------------------------------------------------------------------------

    def _tokens(self, source: ReaderSource) -> Iterator[Token]:
        text = repaired(source.chunks(), self.summary.notes, of_pg_dump=True)
        lexer: Lexer | None = Lexer(_readable(text, self._note_damage))
        while lexer is not None:
            lexer.limit, lexer.whole_rows = LIMIT, True
            following: Lexer | None = None
            try:
                for token in lexer.tokens():
                    yield token
                    lexer.ended = self._ended
                    lexer.limit = LIMIT if self._marked else LIMIT_OF_OTHERS
                    if self._again is not None:
                        again, line = self._again
                        self._again = None
                        # Rows are returned up to the line end before the next row.
                        behind = lexer.start + 1 if isinstance(token, CopyData) else lexer.pos
                        following = lexer.restarted(again, line, behind)
                        break
            except BadPoint as error:
                if self._section is None and self._entry:
                    # The end of this command was not found.
                    self.commands.append(Omission(lexer.line(), _plain(error), self._entry))
                else:
                    self._note_damage(error)
                following = _at_next_header(lexer)
            lexer = following

    def _guarded(self, token: Token) -> Iterator[Entry]:
        if not self._conditions.active and not isinstance(token, MetaCommand):
            return
        if isinstance(token, CopyData):
            yield from self._sound_rows(token)
            return
        if self._section is not None and not isinstance(token, CopyEnd):
            yield from self._end_rows("its rows could not be read to their end")
        try:
            if isinstance(token, Statement | CopyStart) and _NUL in token.text:
                raise Corrupt(f"line {token.line} holds NUL bytes")
            yield from self._take(token)
        except BadPoint as error:
            self._leave_out(token, error)

    def _leave_out(self, token: Token, error: BadPoint) -> None:
        self._comment = self._empty = None
        line = error.line or token.line
        if not isinstance(token, Comment | Noise | CopyEnd):
            self.commands.append(Omission(line, _plain(error), self._entry))
        if isinstance(token, Statement) and (match := _HEADER.search(token.text, 1)) is not None:
            # After a lost quote, the following commands were read as part of this one.
            self._again = token.text[match.start() :] + b";", token.line + token.text.count(b"\n", 0, match.start())

    # Commands of other programs ------------------------------------------------------------------------------------

    @property
    def _by_other_program(self) -> bool:
        return not self._marked

    def _leave_out_foreign(self, command: Command, reason: str) -> Command:
        """Run a harmless command of another program: it can only change the new database."""
        if command.kind is Kind.COPY:
            self.tables.setdefault(command.relations[0], TableDamage()).cut = f"line {command.statement.line} {reason}"
            raise Foreign(f"cannot restore the dump: line {command.statement.line} {reason}")
        if command.kind is Kind.CODE or (command.kind is Kind.EXTENSION_CALL and self._makes_function(command)):
            raise Unsafe(f"cannot restore the dump: line {command.statement.line} {reason}")
        if isinstance(command.detail, PsqlCommand):
            self._conditions.note(command.detail)
        if command.kind in (Kind.QUERY, Kind.PSQL) or (isinstance(command.detail, Setting) and command.detail.local):
            return replace(command, verdict=Verdict.SKIP, reason=reason)
        return replace(command, verdict=Verdict.RUN)

    def _makes_function(self, command: Command) -> bool:
        """Whether the file itself creates the function that a call of an extension's function would call."""
        assert isinstance(command.detail, Relation)
        name = re.compile(rf'(?:.*\.)?"?{re.escape(command.detail.name)}"?\(', re.IGNORECASE)
        return any(each.kind is Kind.FUNCTION and name.match(each.identity) for each in self.summary.created)

    def _follow(self, command: Command) -> None:
        super()._follow(command)
        if command.kind in (Kind.CHANGE, Kind.DROP) and _REDEFINES.match(command.statement.text) is not None:
            # From here on, only the server knows its columns.
            for relation in command.relations:
                self.summary.tables.pop(relation, None)
                if command.kind is Kind.DROP:
                    self._existing.discard(relation)
            if isinstance(command.detail, Relation):
                self._existing.discard(command.relations[0])
                self._existing.add(command.detail)

    def _enter(self, name: str, token: MetaCommand) -> None:
        self._chosen = self._chosen or self._wanted or name
        self._elsewhere = name != self._chosen
        if self._elsewhere and self._wanted is None:
            self.damage.append(
                f'it holds several databases: from line {token.line} on "{shown(name)}", which was left out; '
                "choose one with --database"
            )

    def _insert(self, token: Statement) -> tuple[RowsStart, list[bytes]] | None:
        section = super()._insert(token)
        # Without a column list it need not have all columns.
        unsure = section is not None and section[0].columns is None and not self._marked
        return None if unsure else section

    # Rows --------------------------------------------------------------------------------------------------------

    def _end_rows(self, why: str) -> Iterator[Entry]:
        section, self._section = self._section, None
        assert section is not None
        self.tables.setdefault(section.start.relation, TableDamage()).cut = why
        yield RowsEnd(section.rows)

    def _sound_rows(self, token: CopyData) -> Iterator[Entry]:
        """The valid rows, adjacent ones in one entry; the others are recorded."""
        section = self._section
        if section is None or not (token := section.converted(token)).rows:
            return
        if not self._marked and token.data.count(b"\r\n") == token.rows:
            token = replace(token, data=token.data.replace(b"\r\n", b"\n"))  # as the server reads it
        columns = section.start.columns
        tabs = None if columns is None else max(len(columns) - 1, 0)
        if self._all_sound(token, tabs, columns == ()):
            section.rows += token.rows
            yield Rows(token.data, token.rows, token.offset, token.line)
            return
        damage = self.tables.setdefault(section.start.relation, TableDamage())
        together: list[bytes] = []
        offset = token.offset
        lines = token.data.split(b"\n")[:-1]
        for number, row in enumerate(lines):
            line = token.line + number
            why = self._odd(row, tabs, columns == ())
            if not why:
                together.append(row + b"\n")
            else:
                yield from self._together(section, together, offset, line)
                if _HEADER.match(row) is not None:
                    # The end of the rows was lost, and these lines are no rows.
                    self._again = b"\n".join(lines[number:]) + b"\n", line
                    yield from self._end_rows("the end of its rows is damaged")
                    return
                damage.add(line, why)
            offset += len(row) + 1
        yield from self._together(section, together, offset, token.line + len(lines))

    def _together(self, section: CopySection, rows: list[bytes], end: int, line: int) -> Iterator[Entry]:
        if rows:
            data = b"".join(rows)
            section.rows += len(rows)
            yield Rows(data, len(rows), end - len(data), line - len(rows))
            rows.clear()

    def _all_sound(self, token: CopyData, tabs: int | None, empty: bool) -> bool:
        data = token.data
        return (
            (tabs is None or data.count(b"\t") == tabs * token.rows)
            and (not empty or len(data) == token.rows)
            and b"\r" not in data
            and encodings.first_bad_byte(data, self._codec) is None
        )

    def _odd(self, row: bytes, tabs: int | None, empty: bool) -> str:
        """The fault of a row; empty if it is valid."""
        if _NUL in row:
            return "holds NUL bytes"
        if b"\r" in row:
            return "has a bare carriage return"
        if encodings.first_bad_byte(row, self._codec) is not None:
            return f"is not valid {shown(self.summary.encoding)}"
        has = row.count(b"\t")
        if tabs is not None and (has != tabs or (empty and row)):
            if patterns.MESSAGE.match(row):
                return "is a message of pg_dump"
            return f"has {has + 1} value{'s' * (has > 0)} instead of {0 if empty else tabs + 1}"
        return ""


def _plain(error: BadPoint) -> str:
    return re.sub(r"^cannot \w+ the (?:dump|file): ", "", error.message)


def _readable(chunks: Iterator[bytes], note: Callable[[BadPoint], None]) -> Iterator[bytes]:
    """The readable text; NUL bytes are replaced by a text that makes their row or command invalid."""
    seen = False
    try:
        for chunk in chunks:
            if b"\0" in chunk:
                if not seen:
                    note(Corrupt("it has NUL bytes, which no dump contains"))
                seen = True
                chunk = chunk.replace(b"\0", _NUL)
            yield chunk
    except BadPoint as error:
        note(error)


def _at_next_header(lexer: Lexer) -> Lexer | None:
    """A lexer that continues at the next header of an entry after the unreadable text; None at the end."""
    search_from = lexer.start + 1
    while (match := _HEADER.search(lexer.buffer, search_from)) is None:
        lexer.line()
        lexer.start = lexer.pos = max(lexer.start, len(lexer.buffer) - _SKIPPED_AHEAD)
        search_from = lexer.start
        if not lexer.more():
            return None
        search_from = lexer.start
    line = lexer.line_of(lexer.base + match.start())
    return lexer.restarted(b"", line, match.start())
