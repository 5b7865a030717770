"""Markdown of texts from anywhere: a name in a database may hold what Markdown or HTML would take as a command.

Everything here is CommonMark with GitHub's tables and task lists. ``present.page`` makes HTML of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lastgood.text.visible import visible

_COMMANDS = re.compile(r"([\\`*_\[\]<>&|~#])")
# What begins a list, a heading or a rule, at the beginning of a line only.
_AT_THE_BEGINNING = re.compile(r"\A(\d{1,9}(?=[.)](?:\s|\Z))|(?=[-+=]))")


def text(value: str) -> str:
    """``value`` as it is, in one line, whatever it holds."""
    line = _COMMANDS.sub(r"\\\1", one_line(value))
    return _AT_THE_BEGINNING.sub(r"\1\\", line)


def code(value: str) -> str:
    """``value`` as code within a line: names, commands."""
    line = one_line(value)
    if not line.strip():
        return f"“{line}”"  # an empty span, or one of spaces, is none
    fence = "`" * (_longest_run(line) + 1)
    room = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{room}{line}{room}{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """A table of cells that are Markdown already (``text``, ``code``). ``right`` are the columns with numbers."""
    numbers = set(right)
    rules = ["--:" if place in numbers else "---" for place in range(len(columns))]
    return "\n".join(_row(each) for each in (columns, rules, *rows))


def bullets(items: Iterable[str]) -> str:
    """A list of items that are Markdown already."""
    return "\n".join(f"- {item}" for item in items)


def tasks(items: Iterable[tuple[bool, str]]) -> str:
    """A list of things that are done, or not yet."""
    return bullets(f"[{'x' if done else ' '}] {item}" for done, item in items)


def document(*blocks: str) -> str:
    """Blocks, those that are not empty, as one document."""
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


def one_line(value: str) -> str:
    """``value`` with control characters and line ends made visible."""
    return visible(value)


def _row(cells: Sequence[str]) -> str:
    # Within a table, a bar ends the cell even in code; "\|" is taken back to "|" before the cell is read.
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)
