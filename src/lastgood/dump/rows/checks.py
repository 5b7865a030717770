"""Checks of a dump's bytes: its encoding, and the shape of its rows."""

from __future__ import annotations

import codecs
import re

from lastgood.dump.entries import RowsStart
from lastgood.dump.lexer.tokens import CopyData, CopyPart, Statement
from lastgood.dump.names import Relation, shown
from lastgood.dump.rows import encodings
from lastgood.dump.statements import InsertTarget
from lastgood.errors import Corrupt

_MESSAGE = re.compile(rb"pg_dump(?:all)?: ")
# All bytes except the ends of values and rows.
_CONTENT = bytes(byte for byte in range(256) if byte not in b"\t\n")


def check_encoding(text: bytes, offset: int, line: int, *, encoding: str, codec: str) -> None:
    """Check that the text is valid in the dump's encoding (PostgreSQL's name, Python's name). Raises Corrupt with the
    place."""
    at = encodings.first_bad_byte(text, codec)
    if at is None:
        return
    line += text.count(b"\n", 0, at)
    column = at - text.rfind(b"\n", 0, at)
    raise _not_valid(line, offset + at, column, encoding)


def _not_valid(line: int, offset: int, column: int, encoding: str) -> Corrupt:
    name = (
        "UTF-8 (the dump is from a SQL_ASCII database, which has no encoding)" if encoding == "SQL_ASCII" else encoding
    )
    return Corrupt(
        f"cannot use the dump: line {line} (byte {column} of it) is not valid {shown(name)}",
        hint="The file is damaged, or its rows do not have the encoding that it declares.",
        line=line,
        offset=offset,
    )


def _bare_carriage_return(line: int, offset: int, relation: Relation) -> Corrupt:
    return Corrupt(
        f"cannot use the dump: line {line}, a row of {shown(relation)}, has a bare carriage return",
        hint="Transfer the file again in binary mode: the line ends of a part of it were changed.",
        line=line,
        offset=offset,
    )


def check_rows(start: RowsStart, token: CopyData) -> None:
    """Check that no row has a bare carriage return or a wrong number of columns. Raises Corrupt with the line."""
    data = token.data
    at = data.find(b"\r")
    if at >= 0:
        line = token.line + data.count(b"\n", 0, at)
        raise _bare_carriage_return(line, token.offset + at, start.relation)
    columns = start.columns
    # Where the number of columns is unknown, each row must have as many values as the first one.
    tabs = data.count(b"\t", 0, data.find(b"\n")) if columns is None else max(len(columns) - 1, 0)
    # The separators of the whole batch are compared at once; single rows are checked only after a mismatch. A sum would
    # miss a row with too few values together with one with too many.
    separators = data.translate(None, _CONTENT)
    if separators != (b"\t" * tabs + b"\n") * token.rows or (columns == () and len(data) != token.rows):
        _find_odd_row(start, token, tabs)


class LongRow:
    """A row that arrives in parts, with the same checks as in ``check_encoding`` and ``check_rows``."""

    def __init__(self, start: RowsStart, *, encoding: str, codec: str) -> None:
        self._start = start
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(codec)()
        self._size = 0
        self._cut = b""  # the first bytes of a character that continues in the next part
        self._tabs = 0

    def add(self, part: CopyPart) -> None:
        """Check the next part. Raises Corrupt."""
        data = part.data
        if self._encoding != encodings.ANY_BYTES and (self._cut or not data.isascii()):
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
                hint="The file is damaged, or other text was written into it.",
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
                    hint="Make the dump again without 2>&1: stderr went into the same file.",
                    line=line,
                    offset=offset,
                )
            raise _odd_row(start.relation, line, offset, has + 1, 0 if empty else tabs + 1)
        offset += len(row) + 1


def check_inserted(target: InsertTarget, statement: Statement, known: int | None, *, all_columns: bool) -> None:
    """Check the number of values in each row of an INSERT. Raises Corrupt with the line.

    ``known``: the number of the table's columns, None if unknown. ``all_columns``: an INSERT without a column list has
    all of them, as pg_dump writes it; in SQL it may omit the last ones.
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
        hint="The file is damaged, or other text was written into it.",
        line=line,
        offset=offset,
    )


def _counted(values: int) -> str:
    return "1 value" if values == 1 else f"{values} values"
