"""The demo's story on the screen: with colours on a terminal, plain text elsewhere, and a tally of what was claimed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


class Screen:
    """Where the story is told. ``failed`` holds every claim that did not hold; what is claimed was checked before."""

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
        self._console.print(Padding(Text(text, style=style), (0, 0, 0, 3), expand=False))

    def command(self, text: str) -> None:
        """A command line, as one would type it."""
        self._console.print(Padding(Text(f"$ {text}", style="bold"), (0, 0, 0, 3), expand=False))

    def quote(self, text: str) -> None:
        """What a program printed, as it is."""
        for line in text.rstrip().splitlines():
            self._console.print(Text(f"   | {line}", style="dim"), soft_wrap=True)

    def claim(self, text: str, holds: bool, otherwise: str = "") -> None:
        """Something that was checked just now; ``otherwise`` says more when it does not hold."""
        self.claims += 1
        mark, style = ("[ok]    ", "green") if holds else ("[FAILED]", "bold red")
        if not holds:
            self.failed.append(text)
            text = f"{text}: {otherwise}" if otherwise else text
        line = Table.grid(padding=(0, 1))
        line.add_row(Text(f"   {mark}", style=style), Text(text))
        self._console.print(line)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A small table; the first column names things."""
        grid = Table(box=None, padding=(0, 3, 0, 0), header_style="bold")
        for number, column in enumerate(columns):
            grid.add_column(column, no_wrap=number == 0)
        for row in rows:
            grid.add_row(*(Text(cell) for cell in row))
        self._console.print(Padding(grid, (0, 0, 0, 3), expand=False))

    @contextmanager
    def working(self, text: str) -> Iterator[None]:
        """Shows on a terminal that something takes its time."""
        if self._console.is_terminal:
            with self._console.status(text):
                yield
        else:
            yield
