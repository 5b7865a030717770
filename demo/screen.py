"""The demo's story on the screen: with colours on a terminal, plain text elsewhere, and a count of the claims."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.text import Text

_QUOTED = "   | "


class Screen:
    """The output of the story. ``failed``: the claims that did not hold; each is checked before it is shown."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False, markup=False, emoji=False)
        self._acts = 0
        self.claims = 0
        self.failed: list[str] = []

    def title(self, text: str) -> None:
        """The head of the whole."""
        self._console.print(Text(text, style="bold"))

    def act(self, text: str) -> None:
        """A new part of the story."""
        self._acts += 1
        self._console.print()
        self._console.print(Text(f"{self._acts}. {text}", style="bold cyan"))

    def say(self, text: str, *, style: str = "") -> None:
        """A paragraph."""
        self._paragraph(text, first="   ", style=style)

    def command(self, text: str) -> None:
        """A command line, as a user would type it."""
        self._console.print(Text(f"   $ {text}", style="bold"), soft_wrap=True)

    def quote(self, text: str) -> None:
        """A program's output; long lines continue below their last column, rows of tables are not wrapped."""
        width = max(40, self._console.width - len(_QUOTED))
        for line in text.rstrip().splitlines():
            columns = list(re.finditer(r"(?:^|(?<=  ))\S", line))
            indent = columns[-1].start() if columns else 0
            fits = len(line) <= width or len(columns) > 2
            rest = textwrap.wrap(line[indent:], max(20, width - indent), break_on_hyphens=False, break_long_words=False)
            for number, part in enumerate([line[indent:]] if fits else rest):
                lead = line[:indent] if number == 0 else " " * indent
                self._console.print(Text(f"{_QUOTED}{lead}{part}".rstrip(), style="dim"), soft_wrap=True)

    def claim(self, text: str, holds: bool, otherwise: str = "") -> None:
        """A claim that was just checked; ``otherwise`` explains the failure if it does not hold."""
        self.claims += 1
        mark, style = ("[ok]    ", "green") if holds else ("[FAILED]", "bold red")
        if not holds:
            self.failed.append(text)
            text = f"{text}: {otherwise}" if otherwise else text
        self._paragraph(text, first=f"   {mark} ", marked=style)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A small table; the first column has the names."""
        table = [columns, *rows]
        widths = [max(len(row[number]) for row in table) for number in range(len(columns))]
        for number, row in enumerate(table):
            line = "   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self._console.print(Text(f"   {line.rstrip()}", style="" if number else "bold"), soft_wrap=True)

    def _paragraph(self, text: str, *, first: str, style: str = "", marked: str = "") -> None:
        """Text wrapped between words and indented; ``first`` precedes the first line, in a style of its own."""
        lines = textwrap.wrap(text, max(40, self._console.width - len(first)), break_on_hyphens=False)
        for number, line in enumerate(lines):
            start = first if number == 0 else " " * len(first)
            self._console.print(Text.assemble((start, marked), (line, style)), soft_wrap=True)

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Show on a terminal that work is in progress."""
        if self._console.is_terminal:
            with self._console.status(text):
                yield
        else:
            yield
