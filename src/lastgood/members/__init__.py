"""What no dump holds of a database's extensions: how their members differ from what the extensions' scripts make.

pg_dump writes CREATE EXTENSION, the rows of configuration tables and changed grants, and nothing else of what an
extension owns. ``survey`` finds the rest, ``carry`` puts it back into a restored database.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from lastgood.models import Frozen
from lastgood.text.units import counted

Change = Literal["added", "changed", "removed"]
SHOWN = 8


class Departure(Frozen):
    """A part of an extension's members (see ``lastgood.members.parts``) that its script does not make as it is.

    ``digest`` covers its definition. ``commands`` make it so, in their order; none where that can't be done.
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
        """Whether commands put it into a restored database."""
        return bool(self.removal if self.change == "removed" else self.commands)

    @property
    def named(self) -> str:
        """What it is about, in words."""
        return self.identity if self.kind == "member" else f"{self.kind} {self.identity}"

    def __str__(self) -> str:
        return f"{self.named} ({self.change})"


class HeldRows(Frozen):
    """A member table with rows that no dump holds: ``rows`` of them are not from the extension's script, and
    ``missing`` of the script's are gone; a changed row counts as both. ``outside`` is how many the table has that no
    dump holds, the script's among them."""

    extension: str
    schema_name: str
    name: str
    rows: int
    missing: int
    outside: int

    def __str__(self) -> str:
        said = counted(self.rows, "row") if self.rows or not self.missing else ""
        gone = f"{counted(self.missing, 'row')} of its own changed or deleted" if self.missing else ""
        return f"table {self.schema_name}.{self.name} ({', '.join(filter(None, (said, gone)))})"


class Unknown(Frozen):
    """An extension, or a table of one, of which it is not known how its script makes it."""

    extension: str
    why: str


class Survey(Frozen):
    """All of it, for one database."""

    departures: tuple[Departure, ...] = ()
    rows: tuple[HeldRows, ...] = ()
    unknown: tuple[Unknown, ...] = ()

    @property
    def extensions(self) -> tuple[str, ...]:
        """Those with something that no dump holds, each once."""
        return tuple(sorted({each.extension for each in self.departures} | {each.extension for each in self.rows}))

    def said(self, extension: str, *, carried: bool | None = None, rows: bool = True) -> str:
        """What no dump holds of an extension, in words; ``carried``: only what can be put back, or what can't."""
        found = self.lines(extension, carried=carried, rows=rows)
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return ", ".join(found[:SHOWN]) + more

    def lines(self, extension: str, *, carried: bool | None = None, rows: bool = True) -> list[str]:
        """The same, one by one, and all of it."""
        wanted = [
            each
            for each in self.departures
            if each.extension == extension and (carried is None or each.can_be_carried is carried)
        ]
        whole = [each.identity for each in self.departures if each.kind == "member"]
        found = [str(each) for each in wanted if not within(each, whole)]
        if rows and carried is not False:
            found += [str(each) for each in self.rows if each.extension == extension]
        return found


def within(departure: Departure, whole: Iterable[str]) -> bool:
    """Whether it is a part of one of the members that are named as ``pg_identify_object`` does: ``table public.t``."""
    if departure.kind == "member":
        return False
    identity = departure.identity
    for named in whole:
        name = named.partition(" ")[2]
        if (
            identity in (named, name)
            or identity.startswith((f"{name}.", f"{name} ", f"table column {name}."))
            or identity.endswith((f" {name}", f" on {name}"))
        ):
            return True
    return False
