"""Results of a comparison: frozen data, for JSON documents, plans and journals."""

from __future__ import annotations

from typing import Literal

from lastgood.models import Frozen

Level = Literal["digest", "count"]
"""``digest``: whether a table's rows are equal. ``count``: how many rows differ."""

State = Literal["equal", "different", "only a", "only b", "not compared"]
"""``only a``, ``only b``: only that side has the table."""

Change = Literal["only_a", "only_b", "changed"]
"""A row that only one side has, or that both have under the same key with other content."""


class TypeChange(Frozen):
    """A column with another type on the other side. Its values are compared as text."""

    column: str
    a: str
    b: str


class Rename(Frozen):
    """A proposal: ``a`` may be named ``b`` on the other side. The comparison did not assume it. ``why``: ``same
    content`` or ``same definition``."""

    a: str
    b: str
    why: Literal["same content", "same definition"]


class TableDifference(Frozen):
    """The difference of one table, ``schema_name.name`` on both sides.

    ``level`` is how it was compared. ``rows_a`` and ``rows_b`` are the numbers of rows, None if unknown. ``only_a``,
    ``only_b`` and ``changed`` are exact numbers of rows; None where they were not counted, and ``changed`` also where
    rows have no ``key``: a changed row then counts on both sides. ``columns`` were compared; ``columns_a`` and
    ``columns_b`` exist on that side only. ``referenced``: of the rows that only ``b`` has or that changed, those with
    a value of ``b``'s own in one of the columns that were named to ``compared``; None where that was not counted.
    ``why``: why it was not compared, or only in part.
    """

    schema_name: str
    name: str
    state: State
    level: Level = "count"
    rows_a: int | None = None
    rows_b: int | None = None
    only_a: int | None = None
    only_b: int | None = None
    changed: int | None = None
    key: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    columns_a: tuple[str, ...] = ()
    columns_b: tuple[str, ...] = ()
    types: tuple[TypeChange, ...] = ()
    renames: tuple[Rename, ...] = ()
    referenced: int | None = None
    why: str = ""

    @property
    def table(self) -> str:
        """``public.contacts``."""
        return f"{self.schema_name}.{self.name}"

    @property
    def structure_differs(self) -> bool:
        """Whether the columns differ by name or type."""
        return bool(self.columns_a or self.columns_b or self.types)

    @property
    def counted(self) -> bool:
        """Whether the differing rows were counted."""
        return self.only_a is not None and self.only_b is not None
