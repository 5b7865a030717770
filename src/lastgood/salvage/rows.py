"""Rows that are named by their keys.

A key is given as the texts of its values, as the server prints them with the settings of ``transaction.opened``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from psycopg import sql
from pydantic import BeforeValidator

from lastgood.errors import UsageError
from lastgood.postgres.server import Connection
from lastgood.salvage.staged import Staged, cell, listed
from lastgood.salvage.tables import Name, Table

HINT = "To choose among the rows that changed: lastgood salvage choose"


def _parts(given: Any) -> Any:
    """A key of one column may be written without brackets, and a number without quotes."""
    parts = given if isinstance(given, list | tuple) else [given]
    return [str(each) if type(each) is int else each for each in parts]


RowKey = Annotated[tuple[str, ...], BeforeValidator(_parts)]


@dataclass(frozen=True, slots=True)
class NamedRows:
    """Keys of rows of one table: the ``only`` ones that are taken, None for any; and those that are not."""

    only: tuple[RowKey, ...] | None = None
    without: tuple[RowKey, ...] = ()


NO_NAMES = NamedRows()
Given = Mapping[str, tuple[RowKey, ...]]


def named_rows(only: Given, without: Given, tables: Mapping[Name, Table]) -> dict[Name, NamedRows]:
    """The rows that are named by table. Raises UsageError for a table that does not exist or has no key, and for a key
    of another length."""
    found: dict[Name, NamedRows] = {}
    for text, keys in only.items():
        name = _table(text, keys, tables)
        found[name] = replace(found.get(name, NO_NAMES), only=keys)
    for text, keys in without.items():
        name = _table(text, keys, tables)
        found[name] = replace(found.get(name, NO_NAMES), without=keys)
    return found


def _table(text: str, keys: Sequence[RowKey], tables: Mapping[Name, Table]) -> Name:
    def refused(why: str) -> UsageError:
        return UsageError(f'cannot choose rows of table "{text}": {why}', hint=HINT)

    matching = [name for name, each in tables.items() if text in (each.shown, each.name)]
    if len(matching) != 1:
        raise refused("several tables match" if matching else "the live database has no such table")
    key = tables[matching[0]].key
    if key is None:
        raise refused("it has no key")
    for each in keys:
        if len(each) != len(key.columns):
            raise refused(f'"{shown_key(each)}" is no value of its key ({", ".join(key.columns)})')
    return matching[0]


def shown_key(key: Sequence[str]) -> str:
    """A key for people."""
    return ", ".join(key)


def is_among(staged: Staged, keys: Sequence[RowKey]) -> sql.Composed:
    """Whether a row ``m`` of ``merge_N`` has one of some keys. The server hashes their texts."""
    if not keys:
        return sql.Composed([sql.SQL("false")])
    return sql.SQL("(({}) IN (SELECT * FROM {}))").format(listed(key_texts(staged)), _rows(keys))


def refuse_unknown(connection: Connection, staged: Staged, named: NamedRows) -> None:
    """Raise UsageError for a named row that did not change after the restore point."""
    keys = [*(named.only or ()), *named.without]
    if not keys:
        return
    row = connection.execute(
        sql.SQL("SELECT * FROM {} EXCEPT SELECT {} FROM {} m ORDER BY 1 LIMIT 1").format(
            _rows(keys), listed(key_texts(staged)), staged.merge
        )
    ).fetchone()
    if row is not None:
        raise no_such_row(staged.table, row)


def no_such_row(table: Table, key: Sequence[str]) -> UsageError:
    """The error for a named row that did not change."""
    return UsageError(
        f'cannot choose row "{shown_key(key)}" of table "{table.shown}": it did not change after the restore point',
        hint=HINT,
    )


def key_texts(staged: Staged) -> list[sql.Composed]:
    """The values of the key of a row ``m`` of ``merge_N`` as texts: in theirs, or in base for a deleted row."""
    return [
        sql.SQL('(coalesce({}, {})::text COLLATE "C")').format(cell("t", each), cell("b", each))
        for each in (staged.key.columns if staged.key is not None else ())
    ]


def _rows(keys: Sequence[RowKey]) -> sql.Composed:
    columns = [list(each) for each in zip(*keys, strict=True)]
    return sql.SQL("unnest({}) named").format(
        listed(sql.SQL("{}::text[]").format(sql.Literal(each)) for each in columns)
    )
