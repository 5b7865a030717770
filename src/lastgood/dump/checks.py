"""Checks of a dump's bytes: its encoding, and the shape of its rows."""

from __future__ import annotations

import codecs
import re

from lastgood.dump import encodings
from lastgood.dump.entries import RowsStart
from lastgood.dump.names import Relation, shown
from lastgood.dump.statements import InsertTarget
from lastgood.dump.tokens import CopyData, CopyPart, Statement
from lastgood.errors import Corrupt

_MESSAGE = re.compile(rb"pg_dump(?:all)?: ")
# All bytes but those that end a value or a row.
_CONTENT = bytes(byte for byte in range(256) if byte not in b"\t\n")


def check_encoding(text: bytes, offset: int, line: int, *, encoding: str, codec: str) -> None:
    """Every byte is valid in the dump's encoding (PostgreSQL's name, Python's name), or Corrupt says where not."""
    at = encodings.first_bad_byte(text, codec)
    if at is None:
        return
    line += text.count(b"\n", 0, at)
    column = at - text.rfind(b"\n", 0, at)
    raise _not_valid(line, offset + at, column, encoding)


def _not_valid(line: int, offset: int, column: int, encoding: str) -> Corrupt:
    said = "UTF-8 (the dump is from a SQL_ASCII database, which says nothing)" if encoding == "SQL_ASCII" else encoding
    return Corrupt(
        f"cannot use the dump: line {line} (byte {column} of it) is not valid {shown(said)}",
        hint="The file is damaged, or its rows are in another encoding than it says.",
        line=line,
        offset=offset,
    )


def _bare_carriage_return(line: int, offset: int, relation: Relation) -> Corrupt:
    return Corrupt(
        f"cannot use the dump: line {line}, a row of {shown(relation)}, has a bare carriage return",
        hint="Something changed the line ends of a part of the file; fetch it again in binary mode.",
        line=line,
        offset=offset,
    )


def check_rows(start: RowsStart, token: CopyData) -> None:
    """No bare carriage return, and as many columns in every row as its section says; else Corrupt names the line."""
    data = token.data
    at = data.find(b"\r")
    if at >= 0:
        line = token.line + data.count(b"\n", 0, at)
        raise _bare_carriage_return(line, token.offset + at, start.relation)
    columns = start.columns
    # Where the number of columns is unknown, each row must have as many values as the first one.
    tabs = data.count(b"\t", 0, data.find(b"\n")) if columns is None else max(len(columns) - 1, 0)
    # What separates the values of the whole batch is compared at once: rows are looked at one by one only where it is
    # wrong. A sum would miss a row with too few values beside one with too many.
    separators = data.translate(None, _CONTENT)
    if separators != (b"\t" * tabs + b"\n") * token.rows or (columns == () and len(data) != token.rows):
        _find_odd_row(start, token, tabs)


class LongRow:
    """One row that comes in parts, checked as ``check_encoding`` and ``check_rows`` check others."""

    def __init__(self, start: RowsStart, *, encoding: str, codec: str) -> None:
        self._start = start
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._size = 0
        self._cut = b""  # the beginning of a character whose end is in the next part
        self._tabs = 0

    def add(self, part: CopyPart) -> None:
        """Raises Corrupt."""
        data = part.data
        if self._cut or not data.isascii():
            try:
                self._decoder.decode(data, part.last)
            except UnicodeDecodeError as error:
                at = error.start - len(self._cut)
                raise _not_valid(part.line, part.offset + at, self._size + at + 1, self._encoding) from error
            self._cut = self._decoder.getstate()[0]
        self._size += len(data)
        at = data.find(b"\r")
        if at >= 0:
            raise _bare_carriage_return(part.line, part.offset + at, self._start.relation)
        if self._start.columns is None:
            return
        self._tabs += data.count(b"\t")
        expected = len(self._start.columns)
        if self._tabs + 1 > max(expected, 1) or (part.last and (self._tabs + 1 != expected)):
            more = "more than " if self._tabs + 1 > expected else ""
            values = _counted(expected if more else self._tabs + 1)
            raise Corrupt(
                f"cannot use the dump: line {part.line}, a row of {shown(self._start.relation)}, has {more}{values} "
                f"instead of {expected}",
                hint="The file is damaged, or something else was written into it.",
                line=part.line,
                offset=part.offset,
            )


def _find_odd_row(start: RowsStart, token: CopyData, tabs: int) -> None:
    empty = start.columns == ()
    offset = token.offset
    for line, row in enumerate(token.data.split(b"\n")[:-1], token.line):
        has = row.count(b"\t")
        if has != tabs or (row and empty):
            if _MESSAGE.match(row):
                raise Corrupt(
                    f"cannot use the dump: line {line}, among the rows of {shown(start.relation)}, is a message of "
                    "pg_dump",
                    hint="It was made with stderr sent to the same file; make it again without 2>&1.",
                    line=line,
                    offset=offset,
                )
            raise _odd_row(start.relation, line, offset, has + 1, 0 if empty else tabs + 1)
        offset += len(row) + 1


def check_inserted(target: InsertTarget, statement: Statement, known: int | None, *, all_columns: bool) -> None:
    """As many values in each row of an INSERT as it needs; else Corrupt names the line.

    ``known``: how many columns the table has, None where that is unknown. ``all_columns``: an INSERT without a list
    gives every one of them, as pg_dump writes it; SQL itself lets it leave out the last ones.
    """
    wanted = target.columns if target.columns is not None else known
    if wanted is None and target.rows:
        wanted = target.rows[0][0]
    for has, at in target.rows:
        too_few = wanted is not None and has < wanted and (all_columns or target.columns is not None)
        if wanted is not None and (has > wanted or too_few or has != target.rows[0][0]):
            line = statement.line + statement.text.count(b"\n", 0, at)
            raise _odd_row(target.relation, line, statement.offset + at, has, wanted)


def _odd_row(relation: Relation, line: int, offset: int, has: int, wanted: int) -> Corrupt:
    values = _counted(has)
    return Corrupt(
        f"cannot use the dump: line {line}, a row of {shown(relation)}, has {values} instead of {wanted}",
        hint="The file is damaged, or something else was written into it.",
        line=line,
        offset=offset,
    )


def _counted(values: int) -> str:
    return "1 value" if values == 1 else f"{values} values"
