"""The parts of a database's extensions that no dump holds: how their members differ from what the extension scripts
create.

pg_dump writes CREATE EXTENSION, the rows of configuration tables and changed grants, and nothing else of what an
extension owns. ``survey`` finds the rest, ``carry`` restores it into a restored database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lastgood.models import Frozen
from lastgood.text.units import counted, listed

Change = Literal["added", "changed", "removed"]
MOST_SHOWN = 8


class Deviation(Frozen):
    """A part of an extension's members (see ``lastgood.members.parts``) that differs from what its script creates.

    ``digest`` covers its definition. ``commands`` create this state, in their order; empty where that is impossible.
    """

    extension: str
    kind: str
    identity: str
    change: Change
    digest: str
    commands: tuple[str, ...] = ()
    removal: tuple[str, ...] = ()

    @property
    def can_be_carried(self) -> bool:
        """Whether commands can restore it."""
        return bool(self.removal if self.change == "removed" else self.commands)

    @property
    def named(self) -> str:
        """The part, in words."""
        return self.identity if self.kind == "member" else f"{self.kind} {self.identity}"

    def __str__(self) -> str:
        return f"{self.named} ({self.change})"


class UndumpedRows(Frozen):
    """A member table with rows that no dump holds. ``rows``: the number of rows that are not from the extension's
    script; ``missing``: the number of the script's rows that are gone; a changed row counts as both. ``outside``: the
    number of rows that no dump holds, including those of the script."""

    extension: str
    schema_name: str
    name: str
    rows: int
    missing: int
    outside: int

    def __str__(self) -> str:
        added = counted(self.rows, "row") if self.rows or not self.missing else ""
        removed = f"{counted(self.missing, 'row')} of its script changed or deleted" if self.missing else ""
        return f"table {self.schema_name}.{self.name} ({', '.join(filter(None, (added, removed)))})"


class UnknownOriginal(Frozen):
    """An extension, or a table of an extension, whose original state could not be determined."""

    extension: str
    why: str


class MemberSurvey(Frozen):
    """The result for one database."""

    departures: tuple[Deviation, ...] = ()
    rows: tuple[UndumpedRows, ...] = ()
    unknown: tuple[UnknownOriginal, ...] = ()

    @property
    def extensions(self) -> tuple[str, ...]:
        """The extensions with parts that no dump holds, each once."""
        return tuple(sorted({each.extension for each in self.departures} | {each.extension for each in self.rows}))

    def summary(self, extension: str, *, carried: bool | None = None, rows: bool = True) -> str:
        """The parts of an extension that no dump holds, in words; ``carried``: only those that can be restored, or only
        the others."""
        lines = self.lines(extension, carried=carried, rows=rows)
        return listed(lines, MOST_SHOWN)

    def lines(self, extension: str, *, carried: bool | None = None, rows: bool = True) -> list[str]:
        """The same as a complete list."""
        chosen = [
            each
            for each in self.departures
            if each.extension == extension and (carried is None or each.can_be_carried is carried)
        ]
        members = [each.identity for each in self.departures if each.kind == "member"]
        lines = [str(each) for each in chosen if not within(each, members)]
        if rows and carried is not False:
            lines += [str(each) for each in self.rows if each.extension == extension]
        return lines


def within(departure: Deviation, members: Iterable[str]) -> bool:
    """Whether it is a part of one of the members, which have names of ``pg_identify_object``: ``table public.t``."""
    if departure.kind == "member":
        return False
    identity = departure.identity
    for member in members:
        name = member.partition(" ")[2]
        if (
            identity in (member, name)
            or identity.startswith((f"{name}.", f"{name} ", f"table column {name}."))
            or identity.endswith((f" {name}", f" on {name}"))
        ):
            return True
    return False
