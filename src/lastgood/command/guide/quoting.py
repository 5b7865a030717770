"""Names from a database, written so that a shell, libpq and SQL each read exactly that name.

What is written stays in one line, whatever the name holds: it can't leave its here-document, its block or its table.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from lastgood.text import redact

WIDTH = 118


def word(text: str) -> str:
    """One word of a POSIX shell, in quotes where it needs them. A text that ends with a line end can't be written so:
    see ``assigned``."""
    if text.isprintable():
        return shlex.quote(text)
    return f'"$(printf -- {_formatted(text)})"'


def assigned(name: str, text: str) -> str:
    """``export NAME=…``. The shell drops line ends at the end of a command's output: something stands behind them."""
    if text.isprintable():
        return f"export {name}={word(text)}"
    return f'{name}={word(text + ".")}; export {name}="${{{name}%.}}"'


def command_line(words: Sequence[str], numbers: Iterator[int]) -> str:
    """A command with its arguments. Guides are passed on: each secret is replaced by a variable, with a number of its
    own out of ``numbers``."""
    return " ".join(_open_word(each, numbers) for each in redact.hidden(words))


def _open_word(text: str, numbers: Iterator[int]) -> str:
    first, *rest = (word(part) if part else "" for part in text.split(redact.HIDDEN))
    asked = (f'"${{SECRET_{next(numbers)}:?take it from lastgood.toml}}"{part}' for part in rest)
    return first + "".join(asked) or "''"


def _formatted(text: str) -> str:
    """A format for printf that gives these bytes."""
    plain = set(range(0x20, 0x7F)) - set(b"'\\%!")
    return "'" + "".join(chr(byte) if byte in plain else f"\\{byte:03o}" for byte in text.encode()) + "'"


def literal(text: str) -> str:
    """A text in SQL, whatever standard_conforming_strings says."""
    if text.isprintable() and "\\" not in text:
        return "'" + text.replace("'", "''") + "'"
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return "E'" + "".join(each if each.isprintable() else _escaped(ord(each)) for each in escaped) + "'"


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def setting(keyword: str, text: str, *, open_end: bool = False) -> str:
    """``keyword=value`` of a connection string. ``open_end``: something is to be put behind the value; then the quote
    that ends it, if it needs one, is left out (see ``needs_quotes``)."""
    if not needs_quotes(text):
        return f"{keyword}={text}"
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"{keyword}='{escaped}" + ("" if open_end else "'")


def needs_quotes(text: str) -> bool:
    """Whether a value of a connection string stands in quotes."""
    return re.fullmatch(r"[\w./:@%+,-]+", text, re.ASCII) is None


def insert(table: str, rows: Iterable[str]) -> str:
    """``INSERT INTO table VALUES`` of rows that are SQL already, as many in a line as there is room for."""
    lines: list[str] = []
    for row in rows:
        if lines and len(lines[-1]) + len(row) + 2 <= WIDTH:
            lines[-1] += f" {row},"
        else:
            lines.append(f"{row},")
    if not lines:
        return ""
    return f"INSERT INTO {table} VALUES\n" + "\n".join(lines).rstrip(",") + ";\n"
