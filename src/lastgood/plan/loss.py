"""The difference between the live database and a restore point, by table: what a rollback removes, brings back and
changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from lastgood.models import Frozen
from lastgood.text import units

Compare = Literal["count", "digest", "none"]
"""The comparison of rows in a plan: ``count`` the rows that differ; ``digest``: only which tables differ; or
``none``."""


class TableLoss(Frozen):
    """The difference of one table. A row count is None if the table does not exist on that side, or if the count of the
    live table is unknown; ``estimated``: the count is the server's estimate.

    ``written_since``: rows of the live table written after the restore point, by column ``by``; None if no column
    records it. ``content``: whether its rows equal those of the restore point; None if only one side has the table.
    ``lost``, ``returns`` and ``changed``: exact numbers of rows that only the live table has, that only the restore
    point has, and that both have under the same key with other content; None where they were not counted, and
    ``changed`` also without a key. ``columns_lost`` only the live table has, ``columns_back`` only the restore point.
    ``references``: columns with names of things outside of the database; ``referenced``: of the lost and changed rows,
    those with a new value in one of them, None where they were not counted. ``why``: why the rows were not compared or
    counted. ``not_in_dumps``: rows of an extension's table that no dump holds; a rollback copies them from the live
    database. ``unreadable``: the server's error if the live table cannot be read.
    """

    schema_name: str
    name: str
    live_rows: int | None
    point_rows: int | None
    estimated: bool = False
    written_since: int | None = None
    by: str | None = None
    content: Literal["equal", "changed", "not compared"] | None = None
    why: str = ""
    unreadable: str = ""
    not_in_dumps: int = 0
    lost: int | None = None
    returns: int | None = None
    changed: int | None = None
    columns_lost: tuple[str, ...] = ()
    columns_back: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    referenced: int | None = None

    @property
    def table(self) -> str:
        """``public.contacts``."""
        return f"{self.schema_name}.{self.name}"

    @property
    def differs(self) -> bool:
        """Whether a rollback is known to change the table."""
        return (
            self.live_rows != self.point_rows
            or bool(self.written_since)
            or self.content == "changed"
            or bool(self.not_in_dumps)
        )

    @property
    def counted(self) -> bool:
        """Whether the differing rows were counted exactly."""
        return self.lost is not None and self.returns is not None

    @property
    def in_place(self) -> bool:
        """Whether the rows differ, but not their number."""
        return self.content == "changed" and self.live_rows == self.point_rows

    @property
    def weight(self) -> int:
        """The number of differing rows; the minimum by the counts where they were not counted."""
        return max(sum(self.at_least), self.not_in_dumps)

    @property
    def at_least(self) -> tuple[int, int, int]:
        """Lost, returning and changed rows; the minimum by the counts where they were not counted."""
        if self.counted:
            return self.lost or 0, self.returns or 0, self.changed or 0
        more = 0 if self.estimated else (self.live_rows or 0) - (self.point_rows or 0)
        return max(more, self.written_since or 0, 0), max(-more, 0), 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The rows of all tables that are lost, return and change. ``exact``: the rows of every table were counted;
    otherwise these are minimums."""

    lost: int
    returns: int
    changed: int
    exact: bool

    @classmethod
    def of(cls, losses: Iterable[TableLoss]) -> Totals:
        """The sum of ``losses``."""
        lost = returns = changed = 0
        exact = True
        for each in losses:
            rows = each.at_least
            lost, returns, changed = lost + rows[0], returns + rows[1], changed + rows[2]
            exact = exact and (each.counted or each.content == "equal")
        return cls(lost, returns, changed, exact)

    @property
    def summary(self) -> str:
        """``loses 173 rows, changes 40,000, returns 20``; it says so if not all rows were compared."""
        named = [("loses", self.lost), ("changes", self.changed), ("returns", self.returns)]
        shown = [f"{verb} {units.number(rows)}" for verb, rows in named if rows]
        if not shown:
            return "no row differs" if self.exact else "not all rows were compared"
        first, *others = shown
        first += " row" if first.endswith(" 1") else " rows"
        return ", ".join([first, *others]) + ("" if self.exact else ", and more: not all rows were compared")


RevivalKind = Literal["person", "consent", "access", "queue", "schedule", "grant"]


class Revival(Frozen):
    """Rows or grants that a rollback brings back to life although they were ended on purpose, perhaps: deleted people,
    revoked consents and access, work that is done, jobs, grants. ``what`` is a table, or a grant in words. ``returns``
    rows were deleted since the restore point, ``changed`` ones get their former content; None where they were not
    counted."""

    kind: RevivalKind
    what: str
    returns: int | None = None
    changed: int | None = None


class OutsideReference(Frozen):
    """Lost or changed rows that other systems know: ``rows`` of ``table`` have a new value in one of ``columns``; None
    where they were not counted."""

    table: str
    columns: tuple[str, ...]
    rows: int | None


def outside(losses: Sequence[TableLoss]) -> tuple[OutsideReference, ...]:
    """The references to other systems in rows written since the restore point."""
    return tuple(
        OutsideReference(table=each.table, columns=each.references, rows=each.referenced)
        for each in losses
        if each.references and each.differs and each.referenced != 0
    )
