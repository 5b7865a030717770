"""Checks of a dump's bytes: its encoding, and the shape of its rows."""

from __future__ import annotations

import re

from lastgood.dump import encodings
from lastgood.dump.entries import RowsStart
from lastgood.dump.names import shown
from lastgood.dump.tokens import CopyData
from lastgood.errors import Corrupt

_MESSAGE = re.compile(rb"pg_dump(?:all)?: ")


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
    if start.columns is None:
        return
    # One count for the whole batch: rows are looked at one by one only where it is wrong.
    tabs = max(len(start.columns) - 1, 0)
    if data.count(b"\t") != tabs * token.rows or (not start.columns and len(data) != token.rows):
        _find_odd_row(start, token, tabs)


def _find_odd_row(start: RowsStart, token: CopyData, tabs: int) -> None:
    assert start.columns is not None
    offset = token.offset
    for line, row in enumerate(token.data.split(b"\n")[:-1], token.line):
        has = row.count(b"\t")
        if has != tabs or (row and not start.columns):
            if _MESSAGE.match(row):
                raise Corrupt(
                    f"cannot use the dump: line {line}, among the rows of {shown(start.relation)}, is a message of "
                    "pg_dump",
                    hint="It was made with stderr sent to the same file; make it again without 2>&1.",
                    line=line,
                    offset=offset,
                )
            values = "1 value" if has == 0 else f"{has + 1} values"
            raise Corrupt(
                f"cannot use the dump: line {line}, a row of {shown(start.relation)}, has {values} instead of "
                f"{len(start.columns)}",
                hint="The file is damaged, or something else was written into it.",
                line=line,
                offset=offset,
            )
        offset += len(row) + 1
