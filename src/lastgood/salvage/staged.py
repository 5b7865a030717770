"""One table in a salvage: its changed rows of both sides in temporary tables, and the SQL that reads them.

``base_N`` and ``theirs_N`` have the rows that differ between base and theirs. ``merge_N`` has one row for each row of
the table: ``b``, ``t``, ``o`` and ``f`` are the row in base, theirs and ours, and the merged one, as composite values
of the common columns; ``kind`` is the change from base to theirs, ``state`` how it meets ours, ``action`` what is
done (``insert``, ``update``, ``delete``, or NULL for nothing) and ``why`` the reason that nothing is, if it is not the
state. Values are compared by their binary image, never by an operator: 1.0 is not 1.00.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

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
class Changed:
    """All rows of a table that differ between base and theirs. Of a table without a key, each differing row comes with
    all of its copies. ``written``: the keys, or the rows, that the migration wrote last, if that is known.
    ``renumbered``: old and new keys of rows that earlier salvages brought back."""

    table: Table
    portions: tuple[Portion, ...]
    written: Portion | None = None
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
    """A table whose changed rows are in temporary tables, by ``number``. ``migrated``: see ``without_migrated``."""

    table: Table
    number: int
    columns: tuple[str, ...]
    migrated: tuple[tuple[str, int], ...] = ()

    def temporary(self, kind: str) -> sql.Identifier:
        """The temporary table of that kind: ``base``, ``theirs``, ``merge``."""
        return sql.Identifier("pg_temp", f"{kind}_{self.number}")

    @property
    def merge(self) -> sql.Identifier:
        """The table of decisions."""
        return self.temporary("merge")

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
        assert self.key is not None
        return all_of(
            [
                equality.between(at(left, name), at(right, name))
                for name, equality in zip(self.key.columns, self.key.equalities, strict=True)
            ]
        )

    def written_last(self, written: Portion, row: Callable[[str], sql.Composable]) -> sql.Composed:
        """Whether a row is one of ``written_N``, those that the migration wrote last. ``row``: its columns."""
        key = self.key
        if key is not None and written.columns == key.columns:
            match = all_of(
                [
                    equality.between(at("w", name), row(name))
                    for name, equality in zip(key.columns, key.equalities, strict=True)
                ]
            )
        else:
            shared = [name for name in written.columns if name in self.columns]
            match = same(
                sql.SQL("ROW({})").format(listed(at("w", name) for name in shared)),
                sql.SQL("ROW({})").format(listed(row(name) for name in shared)),
            )
        return sql.SQL("EXISTS (SELECT FROM {} w WHERE {})").format(self.temporary("written"), match)

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


def stage(connection: Connection, number: int, changed: Changed) -> Staged:
    """Load the changed rows into temporary tables, which last until the end of the transaction. Raises Refused if a
    value does not fit the column's type in the live database."""
    staged = Staged(changed.table, number, changed.columns)
    foreign = sorted({name for each in changed.portions for name in each.columns} - set(staged.columns))
    for kind in ("theirs", "base"):
        _create(connection, staged, kind, staged.columns, foreign)
        for portion in changed.portions:
            _copy(connection, staged, kind, portion.columns, portion.theirs if kind == "theirs" else portion.base)
        for name in foreign:
            connection.execute(
                sql.SQL("ALTER TABLE {} DROP COLUMN {}").format(staged.temporary(kind), sql.Identifier(name))
            )
        connection.execute(sql.SQL("ANALYZE {}").format(staged.temporary(kind)))
    if changed.written is not None:
        _create(connection, staged, "written", changed.written.columns, [])
        _copy(connection, staged, "written", changed.written.columns, changed.written.theirs)
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


def _create(connection: Connection, staged: Staged, kind: str, columns: Sequence[str], foreign: Sequence[str]) -> None:
    """Create a temporary table with the types of the live one. ``foreign``: columns that the live table lacks."""
    connection.execute(
        sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA").format(
            staged.temporary(kind),
            listed(
                [sql.Identifier(each) for each in columns]
                + [sql.SQL("NULL::text AS {}").format(sql.Identifier(each)) for each in foreign]
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
