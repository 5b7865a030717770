"""The choice of rows at a terminal: tables and then rows are listed with numbers, and ticked by typing these.

It needs no control of the cursor, and fits into 80 columns and 24 lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from lastgood.command.salvage import plan_file
from lastgood.command.salvage.show import REASONS
from lastgood.errors import Failed, Interrupted
from lastgood.process import durable
from lastgood.salvage.listing import ListedTable, Listing
from lastgood.salvage.plan import Chosen, SalvagePlan
from lastgood.salvage.policy import COLLISIONS
from lastgood.salvage.rows import RowKey
from lastgood.salvage.sides import Names
from lastgood.screen.screen import Screen
from lastgood.text import units

# Lines of the screen that are no rows: two of heading, an empty one, two of help, one for a problem, and the prompt.
AROUND = 8
LEAST = 5
_NUMBERS = re.compile(r"[0-9]{1,9}(-[0-9]{1,9})?")


def page_size(screen: Screen) -> int:
    """The rows that fit on the terminal."""
    return max(LEAST, screen.err.height - AROUND)


@dataclass(slots=True)
class Chooser:
    """Asks until the operator is done. ``answer`` reads a line, and raises EOFError at the end of the input."""

    screen: Screen
    listing: Listing
    answer: Callable[[], str]
    title: str
    _table: ListedTable | None = None
    _page: int = 0
    _problem: str = ""

    def ask(self) -> bool:
        """Ask for tables and rows. Return whether the choice is to be written. Raises Interrupted."""
        while True:
            self._show()
            try:
                words = self.answer().replace(",", " ").split()
            except (KeyboardInterrupt, EOFError):
                raise Interrupted("interrupted", state="Nothing was written.") from None
            if words in (["done"], ["quit"]):
                return words == ["done"]
            self._problem = self._obey(words)

    def _obey(self, words: Sequence[str]) -> str:
        """Do what the operator typed. Return the problem, empty for none."""
        match words:
            case []:
                return ""
            case ["next" | "n"]:
                self._page = min(self._page + 1, self._pages - 1)
            case ["prev" | "p"]:
                self._page = max(self._page - 1, 0)
            case ["back" | "b"]:
                self._table, self._page = None, 0
            case ["rows", number] if self._table is None:
                return self._open(number)
            case ["all"] | ["none"]:
                self._tick(range(self._count), words == ["all"])
            case _:
                return self._toggle(words)
        return ""

    @property
    def _count(self) -> int:
        return len(self.listing.tables) if self._table is None else len(self._table.able)

    @property
    def _pages(self) -> int:
        return -(-self._count // self.listing.size)

    def _open(self, number: str) -> str:
        if "-" in number or not [*self._spans([number])]:
            return f'there is no table "{number}"'
        table = self.listing.tables[int(number) - 1]
        if not table.key:
            return f"{table.shown} has no key: its rows are taken together"
        self._table, self._page = table, 0
        return ""

    def _tick(self, numbers: range, on: bool) -> int:
        """Tick some lines or clear them. Return the number of those that can be ticked."""
        if self._table is not None:
            able = [each for each in numbers if self._table.able[each]]
            for each in able:
                self._table.ticked[each] = on
            return len(able)
        tables = [self.listing.tables[each] for each in numbers]
        for table in tables:
            table.ticked[:] = table.proposed if on else bytes(len(table.proposed))
        return sum(any(table.proposed) for table in tables)

    def _toggle(self, words: Sequence[str]) -> str:
        spans = [*self._spans(words)]
        if len(spans) < len(words):
            unread = next(each for each in words if not _NUMBERS.fullmatch(each) or not [*self._spans([each])])
            return f'cannot read "{unread}": type numbers from 1 to {self._count}, ranges such as 1-3, or a word above'
        if not sum(self._tick(span, not all(map(self._is_ticked, span))) for span in spans):
            if self._table is None:
                return "no row of it is proposed; to choose rows: rows NUMBER"
            return "this row cannot be chosen: see the reason behind it"
        return ""

    def _is_ticked(self, number: int) -> bool:
        if self._table is not None:
            return bool(self._table.ticked[number] or not self._table.able[number])
        return any(self.listing.tables[number].ticked)

    def _spans(self, words: Sequence[str]) -> Iterator[range]:
        """The numbers and ranges that exist, counted from 0."""
        for each in words:
            if _NUMBERS.fullmatch(each):
                first, _, last = each.partition("-")
                found = range(int(first) - 1, int(last or first))
                if found and found.start >= 0 and found.stop <= self._count:
                    yield found

    def _show(self) -> None:
        first = self._page * self.listing.size
        last = min(first + self.listing.size, self._count)
        place = f"{first + 1}-{last} of {self._count}" if self._pages > 1 else f"{self._count}"
        self._say("")
        if self._table is None:
            self._say(f"{self.title} · tables: {place}", style="bold")
            width = max(len(each.shown) for each in self.listing.tables[first:last])
            for number in range(first, last):
                self._say(self._table_line(number, width))
            more = "rows 1: the rows of table 1"
        else:
            ticked, key = sum(self._table.ticked), ", ".join(self._table.key)
            self._say(f"{self._table.shown} · rows: {place}, {ticked:,} ticked · key: {key}", style="bold")
            for number, row in enumerate(self.listing.page(self._table, self._page), first):
                mark = "-" if not self._table.able[number] else "x" if self._table.ticked[number] else " "
                why = f" ({_short(row.why)})" if row.why else ""
                self._say(f"{number + 1:>5} [{mark}] {row.kind} {row.shown_key}{why}  {row.values}")
            more = "back: the tables"
        pages = " · next, prev: pages" if self._pages > 1 else ""
        self._say("")
        self._say(f"1 3-5, all, none: tick or clear · {more}{pages}")
        self._say("done: write the plan file · quit: end without it")
        if self._problem:
            self._say(self._problem, style="bold red")

    def _table_line(self, number: int, width: int) -> str:
        table = self.listing.tables[number]
        ticked, rows = sum(table.ticked), len(table.able)
        mark = " " if not ticked else "x" if ticked == rows else "+"
        note = "" if table.key else "; no key: together or not at all"
        return f"{number + 1:>5} [{mark}] {table.shown:{width}}  {ticked:,} of {units.counted(rows, 'row')}{note}"

    def _say(self, line: str, style: str = "") -> None:
        """Print one line, cut to the width of the terminal."""
        text = Text(self.screen.text(line), style=style)
        text.truncate(self.screen.err.width, overflow="ellipsis")
        self.screen.show(text, stderr=True)


def _short(why: str) -> str:
    return why if why in COLLISIONS else REASONS.get(why, why).partition(";")[0].partition(" (")[0]


def choose(
    screen: Screen, answer: Callable[[], str], plan: SalvagePlan, names: Names, listing: Listing, file: Path
) -> None:
    """Ask, and write the plan file. Raises Interrupted, and Failed if the file cannot be written."""
    if not listing.tables:
        screen.say("No rows differ.", style="bold")
        return
    chooser = Chooser(screen, listing, answer, f'Rows of {plan.theirs.kind} "{plan.theirs.name}"')
    if not chooser.ask() or not any(any(each.ticked) for each in listing.tables):
        screen.say("Nothing was written.", style="bold")
        return
    found = chosen(listing, plan.chosen)
    tables = tuple(each for each in plan.tables if f"{each.schema_name}.{each.name}" in found.tables)
    try:
        durable.write_private(
            file, plan_file.text(plan.model_copy(update={"chosen": found, "tables": tables}), names).encode()
        )
    except OSError as error:
        raise Failed(
            f'cannot write "{file}": {(error.strerror or str(error)).lower()}',
            hint="Name another file: lastgood salvage choose FILE",
            state="Nothing was changed.",
        ) from error
    rows = units.counted(sum(sum(each.ticked) for each in listing.tables), "row")
    screen.say(f'"{file}" has {rows} of {units.counted(len(found.tables), "table")}.', style="bold green")
    screen.heading(f"To see what will be done: lastgood salvage apply {file} --dry-run")


def chosen(listing: Listing, begun: Chosen) -> Chosen:
    """The choice that the ticks make. Rows are named by their keys where the ticks differ from what was proposed: those
    that are left out, or, if these are more or others were added, those that are taken."""
    only: dict[str, tuple[RowKey, ...]] = {}
    without: dict[str, tuple[RowKey, ...]] = {}
    for each in listing.tables:
        if not each.key or each.ticked == each.proposed or not any(each.ticked):
            continue
        cleared, added = _less(each.proposed, each.ticked), _less(each.ticked, each.proposed)
        if any(added) or sum(cleared) > sum(each.ticked):
            only[each.shown] = tuple(listing.keys(each, bytes(each.ticked)))
        else:
            without[each.shown] = tuple(listing.keys(each, cleared))
    tables = tuple(each.shown for each in listing.tables if any(each.ticked))
    return begun.model_copy(update={"tables": tables, "exclude": (), "rows": only, "without_rows": without})


def _less(flags: bytes | bytearray, others: bytes | bytearray) -> bytes:
    """The flags that the others lack."""
    found = int.from_bytes(flags, "big") & ~int.from_bytes(others, "big")
    return found.to_bytes(len(flags), "big")
