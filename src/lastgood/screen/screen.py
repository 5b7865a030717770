"""Output: results to stdout, messages to stderr, all texts cleaned.

Colour is used only on a terminal, never with ``NO_COLOR``, and never carries meaning alone. Lines fit the terminal;
without one they are not wrapped, so that they can be searched.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TextIO, cast

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from lastgood.text import units
from lastgood.text.redact import scrubbed, visible, visible_lines

UNWRAPPED = 10_000
NARROWEST = 40
NARROWEST_NAME = 16
_BREAKABLE = 30
# Stands for a name that is shown above its row; of Unicode's private use, so that no name has it.
_ABOVE = "\ue000"
NO_STYLES: Mapping[str, str] = {}
FORMAT = 1  # of JSON documents and event lines; raised by incompatible changes


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table: ``right`` for numbers, ``fold`` where long values may take several lines, between words
    only; ``breaks``: also within a word, for texts that are no names. ``drop``: on a narrow terminal, columns with a
    number are left out, the highest first. ``style``: of values other than 0."""

    title: str
    right: bool = False
    fold: bool = False
    drop: int = 0
    breaks: bool = False
    style: str = ""


def _least(column: TableColumn, cells: Sequence[str]) -> int:
    """The least width of a column: of its longest word if it folds."""
    texts = [column.title, *cells]
    words = (word for text in texts for word in text.split()) if column.fold else texts
    least = max(map(cell_len, words), default=0)
    return min(least, _BREAKABLE) if column.breaks else least


def _widths(columns: Sequence[TableColumn], cells: Sequence[Sequence[str]], room: int) -> list[int]:
    """The width of each column: what its values need, or its part of what is left where that is too much."""
    texts = [[column.title, *(row[n] for row in cells)] for n, column in enumerate(columns)]
    widths = [_least(column, each[1:]) for column, each in zip(columns, texts, strict=True)]
    wanted = [max(map(cell_len, each)) - width for each, width in zip(texts, widths, strict=True)]
    left = room - sum(widths)
    # Those that need least first: what they leave is for the others.
    for position, n in enumerate(sorted(range(len(columns)), key=wanted.__getitem__)):
        given = max(0, min(wanted[n], left // (len(columns) - position)))
        widths[n] += given
        left -= given
    return widths


def _style(column: TableColumn, cell: str) -> str:
    return column.style if cell != "0" and any(each.isdigit() for each in cell) else ""


def _unchanged(text: str) -> str:
    return text


class Screen:
    """The two streams, with the rules above. ``scrub`` removes passwords from any text."""

    def __init__(
        self,
        *,
        no_color: bool = False,
        scrub: Callable[[str], str] = _unchanged,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
        width: int | None = None,
    ) -> None:
        self._scrub = scrub
        self.out = _console(stdout or sys.stdout, no_color, width)
        self.err = _console(stderr or sys.stderr, no_color, width)

    def text(self, text: str) -> str:
        """Clean ``text`` for output: without passwords and control characters, on one line."""
        return visible(self._scrub(text))

    def say(
        self,
        text: str = "",
        *,
        style: str = "",
        indent: int = 0,
        first: str = "",
        stderr: bool = False,
        lines: bool = False,
    ) -> None:
        """Print a paragraph, wrapped between words and indented; ``first`` precedes the first line. Newlines belong to
        names and are made visible, except with ``lines``; an indented line is a command then, and is not wrapped."""
        console = self.err if stderr else self.out
        lead = " " * indent
        parts = visible_lines(self._scrub(text)).split("\n") if lines else [self.text(text)]
        for number, part in enumerate(parts):
            start = first if number == 0 else lead
            if number and part.startswith("  "):  # a command to copy
                console.print(Text(f"{lead}{part}", style=style), soft_wrap=True)
                continue
            width = max(console.width, NARROWEST)
            wrapped = textwrap.wrap(
                part,
                width,
                initial_indent=start,
                subsequent_indent=lead,
                break_on_hyphens=False,
                break_long_words=False,
            )
            for line in wrapped or [start.rstrip()]:
                console.print(Text(line, style=style), soft_wrap=True)

    def command(self, lead: str, command: str, *, indent: int = 0, style: str = "") -> None:
        """Print a command after ``lead``, or below it where both do not fit into a line: half a command must not be
        copied."""
        start, text = " " * indent, self.text(command)
        fits = cell_len(f"{start}{lead} {text}") <= self.out.width
        self.say(f"{lead} {text}" if fits else lead, first=start, indent=indent, style=style)
        if not fits:
            self.out.print(Text(f"{start}  {text}", style=style), soft_wrap=True)

    def quote(self, line: str) -> None:
        """Print a line of another program on stderr, without passwords and control characters. The prefix prevents a
        pipeline from interpreting it as a command (``::error::``)."""
        self.err.print(Text(f"      | {self.text(line)}"), soft_wrap=True)

    def show(self, what: RenderableType, *, stderr: bool = False) -> None:
        """Print a Rich renderable made of cleaned text."""
        (self.err if stderr else self.out).print(what)

    def heading(self, text: str) -> None:
        """Print a heading after an empty line."""
        self.out.print()
        self.say(text, style="bold")

    def more(self, count: int, shown: int, what: str = "", *, where: str = "--json") -> None:
        """Print how many of ``count`` items were left out after the first ``shown``; nothing if none were. ``what``:
        the noun in the singular; ``where``: what lists all of them."""
        if count > shown:
            rest = units.counted(count - shown, f"more {what}") if what else f"{units.number(count - shown)} more"
            self.say(f"and {rest}; {where} lists all of them", first="  ", indent=2)

    def pairs(self, pairs: Iterable[tuple[str, str]], styles: Mapping[str, str] = NO_STYLES) -> None:
        """Print names and values in two columns; long values are wrapped within their column. ``styles``: of the lines
        with these names."""
        shown = [(name, value) for name, value in pairs if value]
        width = max((len(name) for name, _ in shown), default=0) + 4
        for name, value in shown:
            style = styles.get(name, "")
            if max(map(len, self.text(value).split()), default=0) > self.out.width - width:
                # A long path stays whole, so that it can be copied.
                self.say(name, first="  ", style=style)
                self.say(value, first="    ", indent=4, style=style)
            else:
                self.say(value, first=f"  {name}".ljust(width), indent=width, style=style)

    def table(self, columns: Sequence[TableColumn], rows: Iterable[Sequence[str]]) -> None:
        """Print rows below a header. On a narrow terminal, columns with ``fold`` are wrapped between words, and then
        those with ``drop`` are left out. If that is not enough, a long name in the first column has a line of its own,
        above its row; where even that does not fit, each row becomes a block of lines.
        """
        cells = [[self.text(cell) for cell in row] for row in rows]
        least = [_least(column, [row[n] for row in cells]) for n, column in enumerate(columns)]
        shown = list(range(len(columns)))

        def too_wide() -> bool:
            return sum(least[n] for n in shown) + 2 * len(shown) + 2 > self.out.width

        for number in sorted((n for n in shown if columns[n].drop), key=lambda n: -columns[n].drop):
            if too_wide():
                shown.remove(number)
        room = least[0] if not too_wide() else self.out.width - sum(least[n] for n in shown[1:]) - 2 * len(shown) - 2
        above: list[str] = []
        if not too_wide() or (columns[0].fold and room >= NARROWEST_NAME):
            columns, cells = [columns[n] for n in shown], [[row[n] for n in shown] for row in cells]
            for row in cells:
                if any(cell_len(word) > room for word in row[0].split()):
                    above.append(row[0])
                    row[0] = _ABOVE
        else:
            for row in cells:
                self.say(row[0], first="  ", indent=4)
                self.pairs((f"  {column.title}", cell) for column, cell in zip(columns[1:], row[1:], strict=True))
            return
        # Versions of Rich differ in the padding of the last column: a gap is a column here.
        grid = Table(box=None, padding=0, pad_edge=False, show_edge=False, header_style="bold")
        for column, width in zip(columns, _widths(columns, cells, self.out.width - 2 * len(columns)), strict=True):
            grid.add_column("", width=2)
            grid.add_column(
                Text(column.title),
                justify="right" if column.right else "left",
                no_wrap=not column.fold,
                overflow="fold",
                width=width,
            )
        for row in cells:
            styled = (Text(cell, style=_style(c, cell)) for c, cell in zip(columns, row, strict=True))
            grid.add_row(*(each for cell in styled for each in ("", cell)))
        with self.out.capture() as capture:
            self.out.print(grid)
        for line in capture.get().splitlines():
            if _ABOVE in line:
                self.say(above.pop(0), first="  ", indent=2)
                line = line.replace(_ABOVE, " ")
            self.out.file.write(line.rstrip() + "\n")

    def document(self, body: dict[str, Any]) -> None:
        """Print a JSON document on stdout, with ``format`` first."""
        self.out.file.write(self._json(body, indent=2) + "\n")
        self.out.file.flush()

    def json_line(self, body: dict[str, Any]) -> None:
        """Print a JSON line on stderr."""
        self.err.file.write(self._json(body) + "\n")
        self.err.file.flush()

    def _json(self, body: dict[str, Any], indent: int | None = None) -> str:
        return json.dumps(scrubbed({"format": FORMAT, **body}, self._scrub), indent=indent, default=str)


class _Enduring(io.TextIOBase):
    """A stream whose reader may end (``| head``, a closed terminal). Later output is discarded and the work continues:
    a rollback must not stop because its output is not read."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError is what Python raises for a closed stream
            return self._drop(len(text))

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop(0)

    def _drop(self, written: int) -> int:
        with contextlib.suppress(OSError, ValueError):
            # Otherwise Python would flush the rest at exit, fail again, and change the exit status.
            number = self._stream.fileno()
            with Path(os.devnull).open("wb") as nothing:
                os.dup2(nothing.fileno(), number)
        return written

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed declares an attribute; Rich reads it
        return self._stream.encoding or "utf-8"


def _console(stream: TextIO, no_color: bool, width: int | None) -> Console:
    file = _Enduring(stream)
    terminal = file.isatty()
    return Console(
        file=cast(IO[str], file),
        no_color=no_color or None,
        highlight=False,
        markup=False,
        emoji=False,
        width=width if width is not None else None if terminal else UNWRAPPED,
        legacy_windows=False,
    )
