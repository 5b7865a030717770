"""The rows that a salvage could write, listed in pages for a choice.

The rows are read once, in the transaction of the preview, and kept in a file without a name: while a person chooses, no
transaction is open on the server.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, Self

from psycopg import sql

from lastgood.difference import MASK
from lastgood.errors import Failed
from lastgood.postgres.server import Connection
from lastgood.salvage.merge import VALUE_REQUIRED
from lastgood.salvage.rows import RowKey, key_texts
from lastgood.salvage.staged import Staged, cell, listed, same, same_value
from lastgood.salvage.tables import Name

LONGEST_VALUE = 40
LONGEST = 500
Hidden = Callable[[str, str, Iterable[str]], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Row:
    """One changed row. ``kind``: ``insert``, ``update`` or ``delete``; ``why``: the reason that it is left out, empty
    for none; ``shown_key`` and ``values`` are for people, with masked columns hidden."""

    key: RowKey
    kind: str
    why: str
    shown_key: str
    values: str


@dataclass(slots=True)
class ListedTable:
    """The changed rows of one table, without those that the live database has already. ``ticked`` and ``able`` have a
    byte for each row: whether it is taken, and whether it can be chosen. Without a ``key`` there is no choice of
    rows. ``places``: of its pages in the file."""

    name: Name
    key: tuple[str, ...]
    proposed: bytes
    able: bytes
    ticked: bytearray
    places: list[int]

    @property
    def shown(self) -> str:
        """``schema.name``, for people."""
        return ".".join(self.name)


class Listing:
    """The rows of each table. It is filled by ``read`` and closed at the end of a ``with`` block. ``size``: the rows of
    a page; ``hidden``: the columns, of those of a schema and a table, whose values are not shown."""

    def __init__(self, size: int, hidden: Hidden) -> None:
        self.size = size
        self.tables: list[ListedTable] = []
        self._hidden = hidden
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed by __exit__

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def read(self, connection: Connection, staged: Sequence[Staged]) -> None:
        """Read the rows that the merge of ``staged`` decided. Raises Failed when the disk is full."""
        try:
            self.tables += [found for each in staged if (found := self._table(connection, each)) is not None]
        except OSError as error:
            raise Failed(
                f"cannot write the list of rows to a temporary file: {(error.strerror or str(error)).lower()}",
                hint="Free space on the disk, or set TMPDIR to another folder.",
                state="Nothing was changed.",
            ) from error

    def _table(self, connection: Connection, staged: Staged) -> ListedTable | None:
        row = connection.execute(
            sql.SQL("""
            SELECT coalesce(string_agg(CASE WHEN {proposed} THEN '1' ELSE '0' END, '' ORDER BY {order}), ''),
                   coalesce(string_agg(CASE WHEN {able} THEN '1' ELSE '0' END, '' ORDER BY {order}), '')
            FROM {merge} m WHERE {listed}
            """).format(
                proposed=_PROPOSED, able=_able(staged), merge=staged.merge, listed=_LISTED, order=_order(staged)
            )
        ).fetchone()
        assert row is not None  # an aggregate always gives a row
        proposed, able = (text.encode().translate(_FLAGS) for text in row)
        if not able:
            return None
        table = staged.table
        places = [*self._pages(connection, staged)] if staged.key is not None else []
        key = staged.key.columns if staged.key is not None else ()
        return ListedTable((table.schema, table.name), key, proposed, able, bytearray(proposed), places)

    def _pages(self, connection: Connection, staged: Staged) -> Iterator[int]:
        """Write the pages, one a line, and yield their places."""
        query = sql.SQL("""
            SELECT json_agg(json_build_array({keys}, kind, reason, {shown}, left({values}, {longest}))
                            ORDER BY place)::text
            FROM (SELECT m.*, row_number() OVER (ORDER BY {order}) - 1 AS place,
                         CASE WHEN {proposed} THEN '' ELSE coalesce(m.why, m.state) END AS reason
                  FROM {merge} m WHERE {listed}) m
            GROUP BY place / {size} ORDER BY place / {size}
            """)
        hidden = self._hidden(staged.table.schema, staged.table.name, staged.columns)
        assert staged.key is not None
        texts = key_texts(staged)
        shown = [
            sql.SQL("{}").format(sql.Literal(MASK)) if name in hidden else text
            for name, text in zip(staged.key.columns, texts, strict=True)
        ]
        with connection.cursor(name="lastgood_listing") as cursor:
            cursor.execute(
                query.format(
                    keys=sql.SQL("ARRAY[{}]").format(listed(texts)),
                    shown=sql.SQL("array_to_string(ARRAY[{}], ', ')").format(listed(shown)),
                    values=_values(staged, hidden),
                    longest=sql.Literal(LONGEST),
                    proposed=_PROPOSED,
                    merge=staged.merge,
                    listed=_LISTED,
                    size=sql.Literal(self.size),
                    order=_order(staged),
                )
            )
            for (text,) in cursor:
                yield self._file.tell()
                self._file.write(text.replace("\n", " ").encode() + b"\n")

    def page(self, table: ListedTable, number: int) -> list[Row]:
        """The rows of a page, counted from 0."""
        self._file.seek(table.places[number])
        return [Row(tuple(key), *others) for key, *others in json.loads(self._file.readline())]

    def keys(self, table: ListedTable, wanted: bytes) -> Iterator[RowKey]:
        """The keys of the rows that are ``wanted``, a byte for each row of the table."""
        for page in range(len(table.places)):
            here = wanted[page * self.size : (page + 1) * self.size]
            if any(here):
                yield from (row.key for row, flag in zip(self.page(table, page), here, strict=True) if flag)


_FLAGS = bytes.maketrans(b"01", b"\0\1")
_PROPOSED = sql.SQL("(m.action IS NOT NULL)")
# A row that the live database has already needs no choice.
_LISTED = sql.SQL("(m.action IS NOT NULL OR coalesce(m.why, m.state) <> 'there')")


def _order(staged: Staged) -> sql.Composed:
    """By key; rows without one have no order."""
    columns = staged.key.columns if staged.key is not None else ()
    return listed(
        [*(sql.SQL("coalesce({}, {})").format(cell("t", each), cell("b", each)) for each in columns), sql.SQL("m.rid")]
    )


def _able(staged: Staged) -> sql.Composed:
    """Whether a row would be written if it is chosen: it does not collide, and is a change of a user or a whole row."""
    return sql.SQL(
        "(m.action IS NOT NULL OR (m.state = 'ready' AND m.why IS DISTINCT FROM {} AND NOT (m.kind = 'update' AND {})))"
    ).format(sql.Literal(VALUE_REQUIRED), same(sql.SQL("m.t"), sql.SQL("m.b")))


def _values(staged: Staged, hidden: frozenset[str]) -> sql.Composed:
    """The values that differ, for people: ``column value`` or ``column old → new``."""
    key = staged.key.columns if staged.key is not None else ()
    return sql.SQL("array_to_string(ARRAY[{}]::text[], ', ')").format(
        listed(
            sql.SQL("CASE WHEN NOT {same} THEN {name} || CASE m.kind WHEN 'update' THEN {b} || ' → ' || {t} "
                    "WHEN 'insert' THEN {t} ELSE {b} END END").format(
                same=same_value(cell("b", each), cell("t", each)),
                name=sql.Literal(f"{each} "),
                **{row: _value(row, each, hidden) for row in "bt"},
            )
            for each in staged.columns
            if each not in key
        )
    )  # fmt: skip


def _value(row: str, column: str, hidden: frozenset[str]) -> sql.Composed:
    if column in hidden:
        return sql.SQL("{}").format(sql.Literal(MASK))
    text = sql.SQL("{}::text").format(cell(row, column))
    return sql.SQL("coalesce(CASE WHEN length({0}) > {1} THEN left({0}, {1}) || '…' ELSE {0} END, 'NULL')").format(
        text, sql.Literal(LONGEST_VALUE)
    )
