"""Quoting of names from a database, so that a shell, libpq and SQL each read exactly that name.

The result is always one line: a name cannot break out of its here-document, its block or its table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from lastgood.text import redact

WIDTH = 118


def word(text: str) -> str:
    """Quote one word for a POSIX shell if needed. A text that ends with a newline cannot be written so: see
    ``assigned``."""
    if text.isprintable():
        return shlex.quote(text)
    return f'"$(printf -- {_formatted(text)})"'


def assigned(name: str, text: str) -> str:
    """Return ``export NAME=…``. The shell strips trailing newlines of a command's output, so a character follows
    them."""
    if text.isprintable():
        return f"export {name}={word(text)}"
    return f'{name}={word(text + ".")}; export {name}="${{{name}%.}}"'


def command_line(words: Sequence[str], numbers: Iterator[int]) -> str:
    """Return a command with its arguments. Guides are shared, so each secret is replaced by a variable, numbered from
    ``numbers``."""
    return " ".join(_open_word(each, numbers) for each in redact.hidden(words))


def _open_word(text: str, numbers: Iterator[int]) -> str:
    first, *rest = (word(part) if part else "" for part in text.split(redact.HIDDEN))
    variables = (f'"${{SECRET_{next(numbers)}:?take it from lastgood.toml}}"{part}' for part in rest)
    return first + "".join(variables) or "''"


def _formatted(text: str) -> str:
    """Return a printf format that produces these bytes."""
    plain = set(range(0x20, 0x7F)) - set(b"'\\%!")
    return "'" + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + "'"


def literal(text: str) -> str:
    """Quote a text for SQL, independent of standard_conforming_strings."""
    if text.isprintable() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return "E'" + "".join(each if each.isprintable() else _escaped(ord(each)) for each in escaped) + "'"


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def setting(keyword: str, text: str, *, open_end: bool = False) -> str:
    """Return ``keyword=value`` of a connection string. ``open_end``: the value is extended later, so the closing quote,
    if any, is left out (see ``needs_quotes``)."""
    if not needs_quotes(text):
        return f"{keyword}={text}"
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"{keyword}='{escaped}" + ("" if open_end else "'")


def needs_quotes(text: str) -> bool:
    """Whether a value of a connection string needs quotes."""
    return re.fullmatch(r"[\w./:@%+,-]+", text, re.ASCII) is None


def insert(table: str, rows: Iterable[str]) -> str:
    """Return ``INSERT INTO table VALUES`` for rows in SQL notation, with as many rows per line as fit."""
    lines: list[str] = []
    for row in rows:
        if lines and len(lines[-1]) + len(row) + 2 <= WIDTH:
            lines[-1] += f" {row},"
        else:
            lines.append(f"{row},")
    if not lines:
        return ""
    return f"INSERT INTO {table} VALUES\n" + "\n".join(lines).rstrip(",") + ";\n"
