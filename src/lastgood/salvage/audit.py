"""The rows that a user or a transaction wrote, as the application's audit table tells.

Its entries of after the restore point are rows that base and theirs do not share, and are staged as those of any other
table. An audit table that a rollback in place left where it was is read in the live database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from psycopg import sql

from lastgood.config.tables import Audit
from lastgood.errors import UsageError
from lastgood.salvage.plan import Chosen
from lastgood.salvage.sides import Sides
from lastgood.salvage.staged import Changed, Staged, all_of, any_of, at, cell, listed
from lastgood.salvage.tables import Column, Name, Table

HINT = "Name it in lastgood.toml: [recover.audit] has its table, user_column, transaction_column and row_columns."


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of an audit table: of the changed table's ``schema`` (empty if ``table`` has it, or none has) and
    name; of the changed row, or its key, in the first of ``rows`` with a value; of the ``user``, the ``transaction``
    and the ``time`` (each is empty if it has none)."""

    schema: str
    table: str
    rows: tuple[str, ...]
    user: str
    transaction: str
    time: str

    @property
    def columns(self) -> set[str]:
        """The columns that it has."""
        return {self.schema, self.table, *self.rows, self.user, self.transaction, self.time} - {""}


# By the names of the tables: supa_audit, and the audit trigger of PostgreSQL's wiki.
_KNOWN = {
    ("audit", "record_version"): Shape("table_schema", "table_name", ("record", "old_record"), "auth_uid", "", "ts"),
    ("audit", "logged_actions"): Shape(
        "schema_name", "table_name", ("row_data",), "session_user_name", "transaction_id", "action_tstamp_tx"
    ),
}
# Usual names of the columns of a table that is named in lastgood.toml.
_SCHEMAS = ("table_schema", "schema_name")
_TABLES = ("table_name", "relation", "entity_type", "entity", "object_type", "record_type", "item_type")
_ROWS = ("record", "row_data", "new_row", "new_data", "old_row", "old_data", "row_id", "entity_id", "object_id")
_USERS = ("user_name", "username", "user_id", "auth_uid", "changed_by", "actor", "session_user_name")
_TRANSACTIONS = ("transaction_id", "txid", "xid")


@dataclass(frozen=True, slots=True)
class AuditTable:
    """The audit table, and the ``users`` and ``transactions`` whose rows are wanted; of entries ``since`` and ``until``
    a time, if it has one."""

    table: Table
    shape: Shape
    users: tuple[str, ...]
    transactions: tuple[int, ...]
    since: str | None = None
    until: str | None = None

    @property
    def name(self) -> Name:
        """Its schema and its name."""
        return self.table.schema, self.table.name

    def condition(self, changed: Iterable[Changed], sides: Sides) -> Callable[[Staged], sql.Composed]:
        """Whether an entry tells that a row ``m`` of ``merge_N`` was written by one of the users, in one of the
        transactions."""
        stays = bool(sides.schemas) and self.table.schema not in sides.schemas
        # An audit table that was not exchanged has entries of before the restore point, too.
        since = self.since or sides.base.made_at.isoformat() if stays else self.since
        return partial(replace(self, since=since)._wrote, changed=tuple(changed), stays=stays)

    def _wrote(self, staged: Staged, changed: Iterable[Changed], *, stays: bool) -> sql.Composed:
        entries = next((each for each in changed if (each.table.schema, each.table.name) == self.name), None)
        if staged.key is None or (entries is None and not stays):
            return sql.Composed([sql.SQL("false")])
        source = self.table.rows if entries is None else Staged(self.table, entries.number, ()).temporary("theirs")
        keys = staged.key.columns
        first = self.table.column(self.shape.rows[0])
        if not _is_row(first) and len(keys) > 1:
            return sql.Composed([sql.SQL("false")])
        by = [
            any_of([_text(column, str(each)) for each in given])
            for column, given in ((self.shape.user, self.users), (self.shape.transaction, self.transactions))
            if given
        ]
        return sql.SQL("(({}) IN (SELECT {} FROM {} a WHERE {}))").format(
            listed(_key_text(first, each) for each in keys),
            listed(self._value(each) for each in keys),
            source,
            all_of([self._of_table(staged.table), *by, *self._within]),
        )

    @property
    def _within(self) -> list[sql.Composed]:
        limits = ((">=", self.since), ("<", self.until)) if self.shape.time else ()
        return [
            sql.SQL("{} {} {}::timestamptz").format(at("a", self.shape.time), sql.SQL(operator), sql.Literal(limit))
            for operator, limit in limits
            if limit is not None
        ]

    def _value(self, key: str) -> sql.Composed:
        """The value of a column of the key in an entry, as text."""
        values = [
            sql.SQL("({}{} ->> {})").format(
                at("a", name), sql.SQL("" if self.table.column(name).json else "::pg_catalog.jsonb"), sql.Literal(key)
            )
            if _is_row(self.table.column(name))
            else sql.SQL("{}::text").format(at("a", name))
            for name in self.shape.rows
        ]
        return sql.SQL("coalesce({})").format(listed(values))

    def _of_table(self, table: Table) -> sql.Composed:
        if self.shape.schema:
            return sql.SQL("{} AND {}").format(
                _text(self.shape.schema, table.schema), _text(self.shape.table, table.name)
            )
        return any_of([_text(self.shape.table, each) for each in (table.name, table.shown)])


def _text(column: str, value: str) -> sql.Composed:
    return sql.SQL("{}::text = {}").format(at("a", column), sql.Literal(value))


def _is_row(column: Column) -> bool:
    """Whether a column has whole rows: objects of JSON or hstore, which has a cast to JSON."""
    return bool(column.json) or column.type.rpartition(".")[2] == "hstore"


def _key_text(entries: Column, key: str) -> sql.Composed:
    """A value of the key as the entries have it."""
    value = sql.SQL("coalesce({}, {})").format(cell("t", key), cell("b", key))
    form = "pg_catalog.to_jsonb({}) #>> '{{}}'" if entries.json else "{}::text"
    return sql.SQL(f"({form})").format(value)


def find(tables: Mapping[Name, Table], configured: Audit | None, chosen: Chosen) -> AuditTable | None:
    """The audit table for a choice by users or transactions; None without such a choice. Raises UsageError if none is
    recognised, or it lacks a column."""
    users, transactions = chosen.by_users, chosen.by_transactions
    if not users and not transactions:
        return None
    table, shape = _recognised(tables, configured)
    for what, column, given in (
        ("user", shape.user, users),
        ("transaction", shape.transaction, transactions),
        ("changed table", shape.table, True),
        ("changed row", shape.rows, True),
    ):
        if given and not column:
            raise UsageError(
                f'cannot choose rows by the audit table "{table.shown}": no column has the {what}', hint=HINT
            )
    return AuditTable(table, shape, users, transactions, chosen.since, chosen.until)


def _recognised(tables: Mapping[Name, Table], configured: Audit | None) -> tuple[Table, Shape]:
    if configured is None:
        for name, shape in _KNOWN.items():
            if name in tables and shape.columns <= set(tables[name].stored):
                return tables[name], shape
        raise UsageError("cannot choose rows by user or transaction: no audit table is recognised", hint=HINT)
    table = next((each for each in tables.values() if configured.table in (each.shown, each.name)), None)
    if table is None:
        raise UsageError(
            f'cannot choose rows by the audit table "{configured.table}": the live database has no such table',
            hint="Correct its name in lastgood.toml, in [recover.audit].",
        )
    given = {configured.table_column, configured.user_column, configured.transaction_column}
    given |= {configured.time_column, *configured.row_columns}
    if unknown := sorted(each for each in given if each is not None and each not in table.stored):
        raise UsageError(
            f'cannot choose rows by the audit table "{table.shown}": it has no column "{unknown[0]}"',
            hint="Correct it in lastgood.toml, in [recover.audit].",
        )
    usual = _KNOWN.get((table.schema, table.name), Shape("", "", (), "", "", ""))
    return table, Shape(
        schema=usual.schema or _first(_SCHEMAS, table),
        table=configured.table_column or usual.table or _first(_TABLES, table),
        rows=configured.row_columns or usual.rows or tuple(each for each in _ROWS if each in table.stored)[:2],
        user=configured.user_column or usual.user or _first(_USERS, table),
        transaction=configured.transaction_column or usual.transaction or _first(_TRANSACTIONS, table),
        time=configured.time_column or usual.time,
    )


def _first(names: Sequence[str], table: Table) -> str:
    return next((each for each in names if each in table.stored), "")
