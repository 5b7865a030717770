"""One table in a salvage: its changed rows of both sides in temporary tables, and the SQL that reads them.

``base_N`` and ``theirs_N`` have the rows that differ between base and theirs. ``merge_N`` has one row for each row of
the table: ``b``, ``t``, ``o`` and ``f`` are the row in base, theirs and ours, and the merged one, as composite values
of the common columns; ``kind`` is the change from base to theirs, ``state`` how it meets ours, ``action`` what is
done (``insert``, ``update``, ``delete``, or NULL for nothing) and ``why`` the reason that nothing is, if it is not the
state. Values are compared by their binary image, never by an operator: 1.0 is not 1.00.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection
from lastgood.salvage.tables import Key, Table

RENUMBERED = ("old", "new")
Blocks = Callable[[], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Portion:
    """Some of a table's rows that differ between base and theirs: functions that read them, as blocks of COPY text of
    ``columns``."""

    columns: tuple[str, ...]
    base: Blocks = field(repr=False)
    theirs: Blocks = field(repr=False)


@dataclass(frozen=True, slots=True)
class Written:
    """The rows of theirs that were written since the migration began: ``blocks`` of COPY text with the key's
    ``columns``, or all of them, and the number of the transaction. ``ranges``: the first and the last transaction of
    each part of the migration; ``taken``: transactions whose rows are wanted as they are."""

    columns: tuple[str, ...]
    blocks: Blocks = field(repr=False)
    ranges: tuple[tuple[int, int], ...]
    taken: tuple[int, ...] = ()

    @property
    def number(self) -> str:
        """The column of ``written_N`` with the transaction's number."""
        name = "transaction"
        while name in self.columns:
            name += "_"
        return name

    def by_migration(self, alias: str) -> sql.Composed:
        """Whether the migration wrote a row of ``written_N``."""
        return any_of(
            [
                sql.SQL("{} BETWEEN {} AND {}").format(at(alias, self.number), sql.Literal(first), sql.Literal(last))
                for first, last in self.ranges
            ]
        )


@dataclass(frozen=True, slots=True)
class Migrated:
    """A column of rows that were written again after the migration: the number of ``rows`` in which it has the
    migration's value, and of those in which its author is ``unknown``, with some of their transactions."""

    column: str
    rows: int
    unknown: int
    transactions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """All rows of a table that differ between base and theirs. Of a table without a key, each differing row comes with
    all of its copies. ``number``: of its temporary tables. ``written``: which rows the migration wrote last, if that is
    known. ``renumbered``: old and new keys of rows that earlier salvages brought back."""

    table: Table
    portions: tuple[Portion, ...]
    number: int
    written: Written | None = None
    renumbered: Blocks | None = field(default=None, repr=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that base, theirs and ours have in common."""
        return tuple(name for name in self.table.stored if all(name in portion.columns for portion in self.portions))


def listed(parts: Iterable[sql.Composable]) -> sql.Composed:
    """The parts with commas."""
    return sql.SQL(", ").join(parts)


def all_of(parts: Sequence[sql.Composable]) -> sql.Composed:
    """The conjunction of the parts; true without any."""
    return sql.SQL(" AND ").join(parts) if parts else sql.Composed([sql.SQL("true")])


def any_of(parts: Sequence[sql.Composable]) -> sql.Composed:
    """The disjunction of the parts; false without any."""
    return sql.SQL("({})").format(sql.SQL(" OR ").join(parts)) if parts else sql.Composed([sql.SQL("false")])


def same(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Whether two rows have the same image, NULLs included."""
    return sql.SQL("pg_catalog.record_image_eq({}, {})").format(one, other)


def same_value(one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Whether two values have the same image, NULLs included."""
    return same(sql.SQL("ROW({})").format(one), sql.SQL("ROW({})").format(other))


def cell(row: str, column: str, alias: str = "m") -> sql.Composed:
    """One column of a composite value of ``merge_N``, as ``(m.t).email``."""
    return sql.SQL("({}.{}).{}").format(sql.Identifier(alias), sql.Identifier(row), sql.Identifier(column))


def at(alias: str, column: str) -> sql.Identifier:
    """A column of a table with an alias."""
    return sql.Identifier(alias, column)


@dataclass(frozen=True, slots=True)
class Staged:
    """A table whose changed rows are in temporary tables, by ``number``. ``migrated``: see ``without_migrated``.
    ``by_key``: columns whose JSON objects are merged by key."""

    table: Table
    number: int
    columns: tuple[str, ...]
    migrated: tuple[Migrated, ...] = ()
    by_key: tuple[str, ...] = ()

    def temporary(self, kind: str) -> sql.Identifier:
        """The temporary table of that kind: ``base``, ``theirs``, ``merge``."""
        return sql.Identifier("pg_temp", f"{kind}_{self.number}")

    @property
    def merge(self) -> sql.Identifier:
        """The table of decisions."""
        return self.temporary("merge")

    @property
    def lacking(self) -> tuple[str, ...]:
        """The columns of the live table without which no row can be inserted, and which the rows lack."""
        return tuple(each.name for each in self.table.columns if each.given and each.name not in self.columns)

    @property
    def key(self) -> Key | None:
        """The key by which rows are recognised; None if a side lacks one of its columns."""
        key = self.table.key
        return key if key is not None and set(key.columns) <= set(self.columns) else None

    def row(self, alias: str) -> sql.Composed:
        """The common columns of a table with an alias, as a composite value."""
        return sql.SQL("ROW({})").format(listed(at(alias, each) for each in self.columns))

    def typed(self, row: sql.Composable) -> sql.Composed:
        """A row with the composite type of the common columns."""
        return sql.SQL("({})::{}").format(row, self.temporary("theirs"))

    def same_key(self, left: str, right: str) -> sql.Composed:
        """Whether the rows of two tables, by their aliases, have the same key."""
        return self.same_cells(lambda name: at(left, name), lambda name: at(right, name))

    def same_cells(self, one: Callable[[str], sql.Composable], other: Callable[[str], sql.Composable]) -> sql.Composed:
        """Whether two rows, given by their cells, have the same key."""
        assert self.key is not None
        return all_of(
            [
                equality.between(one(name), other(name))
                for name, equality in zip(self.key.columns, self.key.equalities, strict=True)
            ]
        )

    def written_last(self, written: Written) -> sql.Composed:
        """Whether the migration wrote the row ``m.t`` of ``merge_N`` last."""
        if self.key is not None and written.columns == self.key.columns:
            match = self.same_cells(lambda name: at("w", name), lambda name: cell("t", name))
        else:
            # The server joins by equal texts, and would compare the images of rows pair by pair.
            match = sql.SQL('{} = (m.t::text COLLATE "C")').format(self.image("w"))
        return sql.SQL("EXISTS (SELECT FROM {} w WHERE {} AND {})").format(
            self.temporary("written"), written.by_migration("w"), match
        )

    def image(self, alias: str) -> sql.Composed:
        """The text of a whole row, by which rows without a key are recognised."""
        return sql.SQL('({}::text COLLATE "C")').format(self.typed(self.row(alias)))

    def match(self, left: str, row: str, alias: str = "m") -> sql.Composed:
        """Whether a row of the live table, with the alias ``left``, has the key of the composite value ``row``."""
        assert self.key is not None
        return all_of(
            [
                equality.between(at(left, name), cell(row, name, alias))
                for name, equality in zip(self.key.columns, self.key.equalities, strict=True)
            ]
        )


def analyze(connection: Connection, staged: Staged) -> None:
    """Collect statistics of ``merge_N``. Those of its rows would be expensive, and no statement uses them."""
    connection.execute(sql.SQL("ANALYZE {} (kind, state, image, why, action)").format(staged.merge))


def stage(connection: Connection, changed: Changed) -> Staged:
    """Load the changed rows into temporary tables, which last until the end of the transaction. Raises Refused if a
    value does not fit the column's type in the live database, and for a table without common columns."""
    staged = Staged(changed.table, changed.number, changed.columns)
    if not staged.columns:
        raise Refused(
            f'cannot salvage table "{staged.table.shown}": no column with stored values exists in all databases',
            hint=f"Leave the table out: --exclude {staged.table.shown}",
        )
    foreign = sorted({name for each in changed.portions for name in each.columns} - set(staged.columns))
    for kind in ("theirs", "base"):
        _create(connection, staged, kind, staged.columns, dict.fromkeys(foreign, "text"))
        for portion in changed.portions:
            _copy(connection, staged, kind, portion.columns, portion.theirs if kind == "theirs" else portion.base)
        for name in foreign:
            connection.execute(
                sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(staged.temporary(kind), sql.Identifier(name))
            )
        connection.execute(sql.SQL("ANALYZE {}").format(staged.temporary(kind)))
    if changed.written is not None:
        written = changed.written
        _create(connection, staged, "written", written.columns, {written.number: "int8"})
        _copy(connection, staged, "written", (*written.columns, written.number), written.blocks)
        connection.execute(sql.SQL("ANALYZE {}").format(staged.temporary("written")))
    if changed.renumbered is not None and staged.key is not None:
        old, new = (
            sql.SQL("{} AS {}").format(sql.Identifier(staged.key.columns[0]), sql.Identifier(each))
            for each in RENUMBERED
        )
        connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {}, {} FROM {} WITH NO DATA").format(
                staged.temporary("renumbered"), old, new, staged.table.rows
            )
        )
        _copy(connection, staged, "renumbered", RENUMBERED, changed.renumbered)
        connection.execute(sql.SQL("ANALYZE {}").format(staged.temporary("renumbered")))
    return staged


def _create(
    connection: Connection, staged: Staged, kind: str, columns: Sequence[str], others: Mapping[str, LiteralString]
) -> None:
    """Create a temporary table with the types of the live one. ``others``: columns that the live table lacks, with
    their types."""
    connection.execute(
        sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            staged.temporary(kind),
            listed(
                [sql.Identifier(each) for each in columns]
                + [
                    sql.SQL("NULL::{} AS {}").format(sql.SQL(kind), sql.Identifier(name))
                    for name, kind in others.items()
                ]
            ),
            staged.table.rows,
        )
    )


def _copy(connection: Connection, staged: Staged, kind: str, columns: Sequence[str], blocks: Blocks) -> None:
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        staged.temporary(kind), listed(sql.Identifier(each) for each in columns)
    )
    try:
        with connection.cursor().copy(statement) as copy:
            for block in blocks():
                copy.write(block)
    except psycopg.DataError as error:
        raise Refused(
            f'cannot salvage table "{staged.table.shown}": a value does not fit a column of the live database: '
            f"{message_of(error)}",
            hint=f"Leave the table out with --exclude {staged.table.shown}, or change the column in the live database.",
        ) from error


def copied_out(connection: Connection, query: sql.Composed) -> Iterator[bytes]:
    """The rows of a query as blocks of COPY text."""
    with connection.cursor().copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy:
        for block in copy:
            yield bytes(block)
