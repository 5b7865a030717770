"""Formats of COPY other than that of pg_dump: other delimiters, other NULL strings, CSV.

Rows are converted to pg_dump's format, value by value: the same data gives the same rows, and the same digest. The
rules are those of PostgreSQL's copyfromparse.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from lastgood.dump.rows import encodings

SPECIAL = re.compile(rb"[\x08-\x0d\\]")
_COPY_ESCAPES = {
    b"\b": b"\\b",
    b"\t": b"\\t",
    b"\n": b"\\n",
    b"\v": b"\\v",
    b"\f": b"\\f",
    b"\r": b"\\r",
    b"\\": b"\\\\",
}
_UNESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.)|\Z)", re.DOTALL)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_NULL = b"\\N"


def escaped(value: bytes) -> bytes:
    """A value in COPY's text format."""
    return SPECIAL.sub(lambda found: _COPY_ESCAPES[found[0]], value)


@dataclass(frozen=True, slots=True)
class CopyForm:
    """The format of rows; each of the characters is one byte. The default is pg_dump's."""

    csv: bool = False
    delimiter: bytes = b"\t"
    null: bytes = _NULL
    quote: bytes = b'"'
    escape: bytes = b'"'
    header: bool = False

    @property
    def usual(self) -> bool:
        """Whether this is pg_dump's own format, so that no conversion is needed."""
        return self == CopyForm()


def form_of(options: Iterable[Any], encoding: str) -> CopyForm | None:
    """The format from the options of a COPY; None for an unknown option, and for an option that excludes rows.
    ``encoding``: the codec of the text."""
    values: dict[str, str | None] = {}
    for option in options:
        name = option.defname
        if name in values:
            return None
        values[name] = _text(option.arg)
    kind = _word(values, "format", "text")
    if kind not in ("text", "csv"):
        return None
    values.pop("freeze", None)  # affects storage, not the text
    if (declared := values.pop("encoding", None)) is not None and encodings.codec(declared) != encoding:
        return None
    if _word(values, "on_error", "stop") != "stop":
        return None
    csv = kind == "csv"
    form = CopyForm(csv, b",", b"", header=False) if csv else CopyForm()
    header = _word(values, "header", "false")
    quote = values.pop("quote", '"') or '"'
    escape = values.pop("escape", quote) or quote
    delimiter = values.pop("delimiter", None)
    null = values.pop("null", None)
    if values or (not csv and (quote, escape) != ('"', '"')):
        return None
    form = replace(form, header=header not in ("false", "off", "0"), quote=quote.encode(), escape=escape.encode())
    form = form if delimiter is None else replace(form, delimiter=delimiter.encode())
    form = form if null is None else replace(form, null=null.encode(encoding))
    return form if all(len(each) == 1 for each in (form.delimiter, form.quote, form.escape)) else None


def _word(values: dict[str, str | None], name: str, default: str) -> str:
    return (values.pop(name, default) or "").lower()


def _text(node: Any) -> str | None:
    """An option's value; "true" for an option without one, None for a list."""
    if node is None:
        return "true"
    if isinstance(node, tuple):
        return None
    if node.tag == "String":
        return str(node.sval or "")
    if node.tag == "Integer":
        return str(node.ival or 0)
    if node.tag == "Boolean":
        return "true" if node.boolval else "false"
    return None


class Converter:
    """Convert rows of one section to pg_dump's format. A row of CSV may have several lines, and continue in the next
    portion; ``open``: the last row is incomplete."""

    def __init__(self, form: CopyForm) -> None:
        self._form = form
        self._header = form.header
        self._held: list[bytes] = []
        # A delimiter after a backslash is part of a value.
        self._marks = re.compile(rb"\\.|" + re.escape(form.delimiter), re.DOTALL)

    @property
    def open(self) -> bool:
        """Whether a row is incomplete."""
        return bool(self._held)

    def rows(self, data: bytes) -> list[bytes]:
        """The rows that these whole lines complete, without line ends."""
        rows = []
        for line in data.split(b"\n")[:-1]:
            if not self._form.csv:
                if self._header:
                    self._header = False
                    continue
                rows.append(b"\t".join(map(self._value, self._split(line))))
                continue
            self._held.append(line)
            row = b"\n".join(self._held)
            values = self._fields(row)
            if values is None:
                continue
            self._held.clear()
            if self._header:
                self._header = False
                continue
            rows.append(b"\t".join(values))
        return rows

    def _split(self, line: bytes) -> list[bytes]:
        if b"\\" not in line:
            return line.split(self._form.delimiter)
        fields = []
        start = 0
        for mark in self._marks.finditer(line):
            if mark[0] == self._form.delimiter:
                fields.append(line[start : mark.start()])
                start = mark.end()
        return [*fields, line[start:]]

    def _value(self, raw: bytes) -> bytes:
        if raw == self._form.null:
            return _NULL
        return escaped(_UNESCAPE.sub(_unescaped, raw) if b"\\" in raw else raw)

    def _fields(self, row: bytes) -> list[bytes] | None:
        """The values of a row of CSV; None while a quote is open."""
        form = self._form
        if form.quote not in row:
            return [self._plain(field) for field in row.split(form.delimiter)]
        fields: list[bytes] = []
        value, quoted, position = bytearray(), False, 0
        while position <= len(row):
            byte = row[position : position + 1]
            if byte == form.quote:
                quoted = True
                position = self._quoted(row, position + 1, value)
                if position < 0:
                    return None
            elif byte in (form.delimiter, b""):
                fields.append(escaped(bytes(value)) if quoted else self._plain(bytes(value)))
                value, quoted = bytearray(), False
                position += 1
            else:
                value += byte
                position += 1
        return fields

    def _quoted(self, row: bytes, position: int, value: bytearray) -> int:
        """Add the quoted text to ``value``. Returns the position after the closing quote, -1 without one."""
        form = self._form
        while position < len(row):
            byte = row[position : position + 1]
            following = row[position + 1 : position + 2]
            if byte == form.escape and following in (form.quote, form.escape) and following:
                value += following
                position += 2
            elif byte == form.quote:
                return position + 1
            else:
                value += byte
                position += 1
        return -1

    def _plain(self, raw: bytes) -> bytes:
        return _NULL if raw == self._form.null else escaped(raw)


def _unescaped(found: re.Match[bytes]) -> bytes:
    octal, hexadecimal, letter = found.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    return _LETTERS.get(letter, letter) if letter is not None else b"\\"
