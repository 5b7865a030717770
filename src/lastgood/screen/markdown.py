"""Markdown from untrusted texts: a name in a database may contain Markdown or HTML syntax.

The output is CommonMark with GitHub's tables and task lists. ``screen.page`` converts it to HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from lastgood.text.redact import visible

_COMMANDS = re.compile(r"([\\`*_\[\]<>&|~#])")
# Syntax of lists, headings and rules, only at the beginning of a line.
_AT_THE_BEGINNING = re.compile(r"\A(\d{1,9}(?=[.)](?:\s|\Z))|(?=[-+=]))")


def text(value: str) -> str:
    """Escape ``value`` as literal text in one line."""
    line = _COMMANDS.sub(r"\\\1", one_line(value))
    return _AT_THE_BEGINNING.sub(r"\1\\", line)


def code(value: str) -> str:
    """Render ``value`` as inline code: names, commands."""
    line = one_line(value)
    if not line.strip():
        return f"“{line}”"  # CommonMark has no empty code span
    fence = "`" * (_longest_run(line) + 1)
    room = " " if line[0] in "` " or line[-1] in "` " else ""
    return f"{fence}{room}{line}{room}{fence}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """Render a table of Markdown cells (from ``text``, ``code``). ``right``: the columns with numbers."""
    numbers = set(right)
    rules = ["--:" if place in numbers else "---" for place in range(len(columns))]
    return "\n".join(_row(each) for each in (columns, rules, *rows))


def bullets(items: Iterable[str]) -> str:
    """Render a list of Markdown items."""
    return "\n".join(f"- {item}" for item in items)


def tasks(items: Iterable[tuple[bool, str]]) -> str:
    """Render a task list."""
    return bullets(f"[{'x' if done else ' '}] {item}" for done, item in items)


def document(*blocks: str) -> str:
    """Join the blocks that are not empty into one document."""
    return "\n\n".join(block.strip("\n") for block in blocks if block.strip()) + "\n"


def one_line(value: str) -> str:
    """Make control characters and line ends in ``value`` visible."""
    return visible(value)


def _row(cells: Sequence[str]) -> str:
    # Within a table, a bar ends the cell even in code; "\|" is unescaped to "|" before the cell is parsed.
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _longest_run(value: str) -> int:
    return max((len(run) for run in re.findall("`+", value)), default=0)
