"""Conversion of INSERT commands with plain literals to COPY text.

``pg_dump --inserts`` writes each value as its type's output function does, like COPY: only the quoting differs. The
same data gives the same rows, and the same digest, from either form of dump.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from lastgood.dump.entries import Rows, RowsEnd, RowsStart
from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.names import Relation, quoted
from lastgood.dump.rows.copy_form import SPECIAL, escaped

BATCH = 1 << 18
"""The approximate number of bytes in a batch of rows."""
_AT_ONCE = 1000

_IDENTIFIER = rb'(?:"(?:[^"]|"")+"|[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)'
_LIST = rb"%s(?:\s*,\s*%s)*" % (_IDENTIFIER, _IDENTIFIER)
_HEAD = re.compile(
    rb"(?i:INSERT\s+INTO)\s+((?:%s\.)?%s)(?:\s*\(\s*(%s)\s*\))?\s+"
    rb"(?i:(DEFAULT\s+VALUES)|(?:OVERRIDING\s+SYSTEM\s+VALUE\s+)?VALUES)\s*" % (_IDENTIFIER, _IDENTIFIER, _LIST)
)
_ONE = re.compile(_IDENTIFIER)
_VALUE = re.compile(
    rb"\s*(?:'([^']*+(?>(?:''[^']*+)*))'"  # 1: a string
    rb"|((?i:NULL))"  # 2
    rb"|([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"  # 3: a number
    rb"|((?i:true|false))"  # 4
    rb"|[Bb]'([01]*)'"  # 5: bits
    rb"|((?i:DEFAULT))"  # 6
    rb"|[Ee]'([^'\\]*+(?>(?:(?:''|\\.)[^'\\]*+)*))'"  # 7: a string with escapes
    rb")\s*",
    re.DOTALL,
)
_PLAIN_NUMBER = re.compile(rb"-?[1-9]\d*(?:\.\d+)?|0(?:\.\d+)?|-0\.\d*[1-9]")
_NEXT_ROW = re.compile(rb"\s*,\s*\(")
_END = re.compile(rb"\s*(?i:ON\s+CONFLICT\s+DO\s+NOTHING)?\Z")
_STRING, _NULL, _NUMBER, _BOOLEAN, _BITS, _DEFAULT, _ESCAPED = range(1, 8)

_ESCAPE = re.compile(rb"''|\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an INSERT: the table's name as written, its column list (None without one), the start of its values.

    ``values`` is None for DEFAULT VALUES.
    """

    table: bytes
    columns: tuple[bytes, ...] | None
    values: int | None


@dataclass(frozen=True, slots=True)
class Values:
    """The rows of one INSERT in COPY text form, without the columns at ``defaults`` (positions from 0).

    ``width`` is the number of values in each row, including those.
    """

    lines: list[bytes]
    width: int
    defaults: tuple[int, ...]


def head(text: bytes) -> Head | None:
    """The head of an INSERT, or None if it is not in a form that pg_dump writes."""
    match = _HEAD.match(text)
    if match is None:
        return None
    listed = None if match[2] is None else tuple(_ONE.findall(match[2]))
    if match[3] is not None:
        return Head(match[1], listed, None) if _END.match(text, match.end()) else None
    return Head(match[1], listed, match.end())


def values(text: bytes, start: int, *, escapes_in_strings: bool = False, plain_numbers: bool = False) -> Values | None:
    """The rows of an INSERT whose values begin at ``start``; None unless all are plain literals with the same shape.

    ``escapes_in_strings``: ``standard_conforming_strings`` is off. ``plain_numbers``: accept only numbers in their
    normal form; pg_dump writes others only for numeric columns, where the form is irrelevant.
    """
    lines: list[bytes] = []
    shape: tuple[int, tuple[int, ...]] | None = None
    if text[start : start + 1] != b"(":
        return None
    position = start + 1
    match = _VALUE.match
    while True:
        fields: list[bytes] = []
        defaults: list[int] = []
        width = 0
        while True:
            literal = match(text, position)
            if literal is None:
                return None
            kind = literal.lastindex
            if kind == _STRING:
                value = literal[1]
                if escapes_in_strings and b"\\" in value:
                    return None
                if b"'" in value:
                    value = value.replace(b"''", b"'")
                fields.append(value if SPECIAL.search(value) is None else escaped(value))
            elif kind == _NULL:
                fields.append(b"\\N")
            elif kind == _BOOLEAN:
                fields.append(b"t" if literal[4].lower() == b"true" else b"f")
            elif kind == _DEFAULT:
                defaults.append(width)
            elif kind == _ESCAPED:
                unescaped = _unescaped(literal[7])
                if unescaped is None:
                    return None
                fields.append(escaped(unescaped))
            elif kind == _NUMBER and plain_numbers and _PLAIN_NUMBER.fullmatch(literal[3]) is None:
                return None
            else:
                fields.append(literal[kind or 0])
            width += 1
            position = literal.end() + 1
            delimiter = text[position - 1 : position]
            if delimiter == b")":
                break
            if delimiter != b",":
                return None
        if shape is None:
            shape = (width, tuple(defaults))
        elif shape != (width, tuple(defaults)):
            return None
        lines.append(b"\t".join(fields))
        another = _NEXT_ROW.match(text, position)
        if another is None:
            break
        position = another.end()
    return Values(lines, *shape) if _END.match(text, position) else None


def _unescaped(value: bytes) -> bytes | None:
    r"""The value of an E'' string; None if it depends on the server."""
    plain = True

    def replace(found: re.Match[bytes]) -> bytes:
        nonlocal plain
        octal, hexadecimal, letter = found.groups()
        if octal is not None:
            return bytes([int(octal, 8) & 0xFF])
        if hexadecimal is not None:
            return bytes([int(hexadecimal, 16)])
        if letter is None:
            return b"'"
        plain = plain and letter not in b"uUv"  # \\v is a vertical tab on newer servers only
        return _LETTERS.get(letter, letter)

    result = _ESCAPE.sub(replace, value)
    return result if plain else None


def copy_command(relation: Relation, columns: tuple[str, ...] | None) -> str:
    """The COPY command for rows with these columns; without a list if there are none or they are unknown."""
    listed = f" ({', '.join(map(quoted, columns))})" if columns else ""
    return f"COPY {relation}{listed} FROM stdin"


@dataclass(slots=True)
class InsertPrefix:
    """The target of INSERTs that begin with ``prefix``. ``columns``: the columns of each row, None if unknown;
    ``may_default``: columns that a row may leave to the server; ``values``: the start of the values, None without any.
    """

    prefix: bytes
    relation: Relation
    columns: tuple[str, ...] | None
    may_default: frozenset[str]
    values: int | None
    codec: str
    _copies: dict[tuple[str, ...] | None, bytes] = field(default_factory=dict)

    def start(self, columns: tuple[str, ...] | None, at: Statement) -> RowsStart:
        """The start of a section of rows with these columns."""
        copy = self._copies.get(columns)
        if copy is None:
            copy = self._copies[columns] = copy_command(self.relation, columns).encode(self.codec)
        return RowsStart(self.relation, columns, copy, at.offset, at.line)


class InsertSection:
    """Rows of consecutive INSERTs into one table, collected in batches."""

    def __init__(self, start: RowsStart) -> None:
        self.start = start
        self._lines: list[bytes] = []
        self._size = 0
        self._rows = 0
        self._offset = 0
        self._line = 0

    def add(self, lines: list[bytes], offset: int, line: int) -> Iterator[Rows]:
        """Add the rows of one INSERT; yield each batch that is full."""
        for start in range(0, len(lines), _AT_ONCE):
            batch = lines[start : start + _AT_ONCE]
            if not self._lines:
                self._offset, self._line = offset, line
            self._lines += batch
            self._size += sum(map(len, batch)) + len(batch)
            if self._size >= BATCH:
                yield self._batch()

    def end(self) -> Iterator[Rows | RowsEnd]:
        if self._lines:
            yield self._batch()
        yield RowsEnd(self._rows)

    def _batch(self) -> Rows:
        rows = Rows(b"\n".join(self._lines) + b"\n", len(self._lines), self._offset, self._line)
        self._rows += rows.rows
        self._lines, self._size = [], 0
        return rows
