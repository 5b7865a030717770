"""The plan and the report of a salvage: data for the screen, for programs and for the journal."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lastgood.models import Document, Frozen
from lastgood.salvage.origin import Migration
from lastgood.salvage.policy import Policies
from lastgood.salvage.sides import Base, Theirs
from lastgood.salvage.transaction import TableSummary

Triggers = Literal["off"]


class Chosen(Frozen):
    """The choice of rows. ``tables`` and ``exclude`` are patterns of names; ``where`` has a condition for each of some
    tables; ``since`` and ``until`` are times that a time stamp of the row must be within. Rows of ``transactions`` are
    taken, even if they look like a migration's; those of ``without_transactions`` are not. ``deletes``: also delete
    rows that were deleted after the restore point. ``migration``: also take rows that the migration wrote. ``columns``
    (``TABLE.COLUMN``): take their values as they are in rows that were written again after the migration.
    ``with_parents``: also insert new rows to which chosen rows refer."""

    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    where: dict[str, str] = Field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    transactions: tuple[int, ...] = ()
    without_transactions: tuple[int, ...] = ()
    deletes: bool = False
    migration: bool = False
    columns: tuple[str, ...] = ()
    with_parents: bool = False
    policies: Policies = Policies()


class SalvagePlan(Document):
    """What a salvage would do. ``tables`` has each table with rows that differ. ``missing``: tables with other rows
    that one side lacks. ``migrations``: the transactions whose rows are left out, unless they were chosen."""

    status: Literal["planned"] = "planned"
    live: str
    base: Base
    theirs: Theirs
    chosen: Chosen
    tables: tuple[TableSummary, ...]
    missing: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()
    migrations: tuple[Migration, ...] = ()
    remarks: tuple[str, ...] = ()
    path: Literal["client"] = "client"
    triggers: Triggers = "off"

    def rows(self, action: str) -> int:
        """All rows that are inserted, updated or deleted."""
        return sum(each.rows(action) for each in self.tables)

    @property
    def written(self) -> int:
        """All rows that are written."""
        return sum(self.rows(each) for each in ("insert", "update", "delete"))


class SalvageReport(Document):
    """What a salvage did. ``inserted``, ``updated`` and ``deleted`` are rows; ``undo_command`` reverts it as long as
    its rows are unchanged. ``undoes``: the salvage that this one reverted. ``new_keys``: for each
    table with rows that got a new key, the file with the old and the new ones, as COPY text."""

    run: str
    status: Literal["salvaged", "undone", "nothing to do"]
    live: str
    undoes: str = ""
    inserted: int
    updated: int
    deleted: int
    tables: tuple[TableSummary, ...]
    new_keys: dict[str, str] = Field(default_factory=dict)
    seconds: dict[str, float] = Field(default_factory=dict)
    undo_command: str = ""
