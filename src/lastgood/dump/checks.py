"""Checks of a dump's bytes: its encoding, and the shape of its rows."""

from __future__ import annotations

import re

from lastgood.dump import encodings
from lastgood.dump.entries import RowsStart
from lastgood.dump.names import Relation, shown
from lastgood.dump.statements import InsertTarget
from lastgood.dump.tokens import CopyData, Statement
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
    said = "UTF-8 (the dump is from a SQL_ASCII database, which says nothing)" if encoding == "SQL_ASCII" else encoding
    raise Corrupt(
        f"cannot use the dump: line {line} (byte {column} of it) is not valid {shown(said)}",
        hint="The file is damaged, or its rows are in another encoding than it says.",
        line=line,
        offset=offset + at,
    )


def check_rows(start: RowsStart, token: CopyData) -> None:
    """No bare carriage return, and as many columns in every row as its section says; else Corrupt names the line."""
    data = token.data
    at = data.find(b"\r")
    if at >= 0:
        line = token.line + data.count(b"\n", 0, at)
        raise Corrupt(
            f"cannot use the dump: line {line}, a row of {shown(start.relation)}, has a bare carriage return",
            hint="Something changed the line ends of a part of the file; fetch it again in binary mode.",
            line=line,
            offset=token.offset + at,
        )
    columns = start.columns
    # Where nothing tells how many values a row has, all have as many as the first one.
    tabs = data.count(b"\t", 0, data.find(b"\n")) if columns is None else max(len(columns) - 1, 0)
    # What separates the values of the whole batch is compared at once: rows are looked at one by one only where it is
    # wrong. A sum would miss a row with too few values beside one with too many.
    separators = data.translate(None, _CONTENT)
    if separators != (b"\t" * tabs + b"\n") * token.rows or (columns == () and len(data) != token.rows):
        _find_odd_row(start, token, tabs)


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

    ``known``: how many columns the table has, None where nothing tells. ``all_columns``: an INSERT without a list gives
    every one of them, as pg_dump writes it; SQL itself lets it leave out the last ones.
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
    values = "1 value" if has == 1 else f"{has} values"
    return Corrupt(
        f"cannot use the dump: line {line}, a row of {shown(relation)}, has {values} instead of {wanted}",
        hint="The file is damaged, or something else was written into it.",
        line=line,
        offset=offset,
    )
