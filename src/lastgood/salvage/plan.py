"""The plan and the report of a salvage: data for the screen, for programs and for the journal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, Self

from pydantic import Field

from lastgood.models import Document, Frozen
from lastgood.salvage.origin import Migration
from lastgood.salvage.policy import Policies
from lastgood.salvage.rows import RowKey
from lastgood.salvage.sides import Base, Theirs
from lastgood.salvage.transaction import TableSummary

Triggers = Literal["off"]


class Chosen(Frozen):
    """The choice of rows. ``tables`` and ``exclude`` are patterns of names; ``where`` has a condition for each of some
    tables; ``since`` and ``until`` are times that a time stamp of the row must be within. Rows of ``transactions`` are
    taken, even if they look like a migration's; those of ``without_transactions`` are not. ``by_users`` and
    ``by_transactions``: only rows that they wrote, by the audit table. ``deletes``: also delete
    rows that were deleted after the restore point. ``migration``: also take rows that the migration wrote. ``columns``
    (``TABLE.COLUMN``): take their values as they are in rows that were written again after the migration.
    ``renamed``: what the migration renamed, ``NEW=OLD`` or ``TABLE.NEW=OLD``. ``merge_json``
    (``TABLE.COLUMN``): merge the JSON objects of these columns by key. ``with_parents``: also insert new rows to which
    chosen rows refer. ``rows``: the keys, by table, of the only rows that are taken; they are taken even if the
    migration wrote or a user deleted them. ``without_rows``: those of rows that are not."""

    tables: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    where: dict[str, str] = Field(default_factory=dict)
    since: str | None = None
    until: str | None = None
    transactions: tuple[int, ...] = ()
    without_transactions: tuple[int, ...] = ()
    by_users: tuple[str, ...] = ()
    by_transactions: tuple[int, ...] = ()
    deletes: bool = False
    migration: bool = False
    columns: tuple[str, ...] = ()
    renamed: tuple[str, ...] = ()
    merge_json: tuple[str, ...] = ()
    with_parents: bool = False
    rows: dict[str, tuple[RowKey, ...]] = Field(default_factory=dict)
    without_rows: dict[str, tuple[RowKey, ...]] = Field(default_factory=dict)
    policies: Policies = Policies()


class LeftTable(Frozen):
    """A table whose rows cannot be brought back because ``lacking`` has no such table; ``created``: the restore point
    has none either. ``rows``: of the side that has it. ``renamed``: the proposed value of --renamed, empty without
    one."""

    schema_name: str
    name: str
    rows: int | None
    lacking: Literal["live", "theirs"]
    created: bool = False
    renamed: str = ""


class LeftColumn(Frozen):
    """A column that theirs has and the restore point or the live database lacks, so that its values are not brought
    back. ``rows``: those that users wrote with a value in it; None if unknown. ``live``: the live database has it;
    ``base``: the restore point has it. ``renamed``: as in ``LeftTable``."""

    schema_name: str
    name: str
    column: str
    rows: int | None
    live: bool
    base: bool = False
    renamed: str = ""


class SalvagePlan(Document):
    """What a salvage would do. ``tables`` has each table with rows that differ. ``left_tables`` and ``left_columns``
    cannot be brought back; ``refused``: tables that cannot be salvaged, with the reason. ``audit``: the audit
    table by which rows are chosen, empty for none. ``migrations``: the transactions whose rows are left out, unless
    they were chosen."""

    status: Literal["planned"] = "planned"
    live: str
    base: Base
    theirs: Theirs
    chosen: Chosen
    tables: tuple[TableSummary, ...]
    left_tables: tuple[LeftTable, ...] = ()
    left_columns: tuple[LeftColumn, ...] = ()
    refused: dict[str, str] = Field(default_factory=dict)
    not_compared: tuple[str, ...] = ()
    migrations: tuple[Migration, ...] = ()
    remarks: tuple[str, ...] = ()
    audit: str = ""
    path: Literal["client"] = "client"
    triggers: Triggers = "off"

    def rows(self, action: str) -> int:
        """All rows that are inserted, updated or deleted."""
        return _rows(self.tables, action)

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

    @classmethod
    def of(cls, tables: tuple[TableSummary, ...], **others: Any) -> Self:
        """The report of a run that wrote the rows of ``tables``."""
        inserted, updated, deleted = (_rows(tables, each) for each in ("insert", "update", "delete"))
        return cls(tables=tables, inserted=inserted, updated=updated, deleted=deleted, **others)


def _rows(tables: Iterable[TableSummary], action: str) -> int:
    return sum(each.rows(action) for each in tables)
