"""The writing of merged rows, set by set, in the caller's transaction: deletes, inserts, updates, sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from lastgood import fault
from lastgood.errors import Failed
from lastgood.postgres.server import Connection
from lastgood.salvage import sequences
from lastgood.salvage.staged import Staged, any_of, at, cell, listed, same
from lastgood.salvage.tables import Column, ForeignKey, in_order


@dataclass(slots=True)
class WrittenRows:
    """The rows that the statements of a salvage inserted, updated and deleted in one table."""

    inserted: int = 0
    updated: int = 0
    deleted: int = 0


class Writer:
    """Writes the rows of ``merge_N``. ``unchecked``: the server does not check foreign keys, so the order of tables is
    free, and a row whose unique value changes can be deleted and inserted again: two rows may exchange values."""

    def __init__(self, connection: Connection, staged: Sequence[Staged], *, unchecked: bool) -> None:
        self._connection = connection
        self._staged = {each.table.oid: each for each in staged}
        self._unchecked = unchecked
        self._order, self._broken = in_order(each.table for each in staged)
        self.tallies: dict[int, WrittenRows] = {each.table.oid: WrittenRows() for each in staged}

    def write(self) -> None:
        """Write everything. Raises psycopg.Error, and Failed when a statement changed another number of rows than
        planned."""
        planned = {each.table.oid: self._planned(each) for each in self._ordered}
        if not self._unchecked:
            self._connection.execute("SET CONSTRAINTS ALL DEFERRED")
        replaced = {each.table.oid: self._set_aside(each) for each in self._ordered}
        for each in reversed(self._ordered):
            self._delete(each, planned[each.table.oid].deleted)
        fault.point("salvage.between_tables")
        for each in self._ordered:
            self._insert(each, planned[each.table.oid].inserted, replaced[each.table.oid])
        for each in self._ordered:
            self._update(each, planned[each.table.oid].updated - replaced[each.table.oid])
            for key in self._later(each):
                self._complete(each, key)
        for each in self._ordered:
            for column in each.table.columns:
                if column.sequence is not None and column.name in each.columns:
                    self._advance(each, column)

    @property
    def _ordered(self) -> list[Staged]:
        return [self._staged[each.oid] for each in self._order]

    def _planned(self, staged: Staged) -> WrittenRows:
        found = self._connection.execute(
            sql.SQL("SELECT action, count(*) FROM {} WHERE action IS NOT NULL GROUP BY 1").format(staged.merge)
        )
        counts: dict[str, int] = dict(found.fetchall())
        return WrittenRows(counts.get("insert", 0), counts.get("update", 0), counts.get("delete", 0))

    def _execute(self, staged: Staged, doing: str, statement: sql.Composed, expected: int | None) -> int:
        rows = self._connection.execute(statement).rowcount
        if expected is not None and rows != expected:
            raise Failed(
                f'cannot {doing} {expected:,} rows of "{staged.table.shown}": the server wrote {rows:,}',
                hint="A trigger or a rule of the table may interfere: leave the table out with --exclude.",
            )
        return rows

    def _set_aside(self, staged: Staged) -> int:
        """Copy the rows whose unique values change, with the columns that are not merged."""
        unique = [key for key in staged.table.unique if set(key.columns) & set(staged.columns)]
        if not self._unchecked or staged.key is None or not unique:
            return 0
        names = {name for key in unique for name in key.columns if name in staged.columns}
        changed = any_of([sql.SQL("NOT {}").format(_same_cell(name)) for name in sorted(names)])
        aside = staged.temporary("aside")
        return self._connection.execute(
            sql.SQL("CREATE TEMP TABLE {} ON COMMIT DROP AS SELECT {} FROM {} o JOIN {} m ON {} WHERE {}").format(
                aside,
                listed(
                    sql.SQL("{} AS {}").format(
                        cell("f", name) if name in staged.columns else at("o", name), sql.Identifier(name)
                    )
                    for name in staged.table.stored
                ),
                staged.table.rows,
                staged.merge,
                staged.match("o", "o"),
                sql.SQL("m.action = 'update' AND {}").format(changed),
            )
        ).rowcount

    def _delete(self, staged: Staged, expected: int) -> None:
        tally = self.tallies[staged.table.oid]
        if staged.key is None:
            if expected:
                tally.deleted += self._execute(staged, "delete", _delete_copies(staged), expected)
            return
        if expected:
            statement = sql.SQL("DELETE FROM {} o USING {} m WHERE m.action = 'delete' AND {}").format(
                staged.table.rows, staged.merge, staged.match("o", "b")
            )
            tally.deleted += self._execute(staged, "delete", statement, expected)
        if self._has_aside(staged):
            statement = sql.SQL("DELETE FROM {} o USING {} a WHERE {}").format(
                staged.table.rows, staged.temporary("aside"), staged.same_key("o", "a")
            )
            tally.deleted += self._execute(staged, "replace", statement, None)

    def _has_aside(self, staged: Staged) -> bool:
        row = self._connection.execute(
            "SELECT pg_catalog.to_regclass(%s) IS NOT NULL", [f"pg_temp.aside_{staged.number}"]
        ).fetchone()
        return bool(row and row[0])

    def _insert(self, staged: Staged, expected: int, replaced: int) -> None:
        tally, later = self.tallies[staged.table.oid], self._later(staged)
        empty = {name for key in later for name in key.columns}
        if expected:
            statement = sql.SQL(
                "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} m WHERE m.action = 'insert'"
            ).format(
                staged.table.qualified,
                listed(sql.Identifier(each) for each in staged.columns),
                listed(sql.SQL("NULL") if each in empty else cell("f", each) for each in staged.columns),
                staged.merge,
            )
            tally.inserted += self._execute(staged, "insert", statement, expected)
        if replaced:
            columns = listed(sql.Identifier(each) for each in staged.table.stored)
            statement = sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
                staged.table.qualified, columns, columns, staged.temporary("aside")
            )
            tally.inserted += self._execute(staged, "replace", statement, replaced)

    def _later(self, staged: Staged) -> list[ForeignKey]:
        """The foreign keys of a cycle that are set in a second pass: the server checks them row by row, at once."""
        if self._unchecked:
            return []
        return [
            key
            for key in staged.table.parents
            if key in self._broken and not key.deferrable and set(key.columns) <= set(staged.columns)
        ]

    def _update(self, staged: Staged, expected: int) -> None:
        settable = [
            each for each in staged.columns if staged.table.column(each).identity != "a"
        ]  # the server refuses to update such a column
        if not expected or staged.key is None or not settable:
            return
        aside = (
            sql.SQL("AND NOT EXISTS (SELECT FROM {} a WHERE {})").format(
                staged.temporary("aside"), staged.same_key("o", "a")
            )
            if self._has_aside(staged)
            else sql.SQL("")
        )
        statement = sql.SQL("UPDATE {} o SET {} FROM {} m WHERE m.action = 'update' AND {} {}").format(
            staged.table.rows,
            listed(sql.SQL("{} = {}").format(sql.Identifier(each), cell("f", each)) for each in settable),
            staged.merge,
            staged.match("o", "o"),
            aside,
        )
        self.tallies[staged.table.oid].updated += self._execute(staged, "update", statement, expected)

    def _complete(self, staged: Staged, key: ForeignKey) -> None:
        """Set the references of inserted rows that belong to a cycle."""
        if staged.key is None:
            raise Failed(
                f'cannot insert rows of "{staged.table.shown}": they reference each other, and the table has no key',
                hint="Connect as a superuser, or make the foreign key deferrable.",
            )
        statement = sql.SQL("UPDATE {} o SET {} FROM {} m WHERE m.action = 'insert' AND {} AND {}").format(
            staged.table.rows,
            listed(sql.SQL("{} = {}").format(sql.Identifier(each), cell("f", each)) for each in key.columns),
            staged.merge,
            staged.match("o", "f"),
            any_of([sql.SQL("{} IS NOT NULL").format(cell("f", each)) for each in key.columns]),
        )
        self.tallies[staged.table.oid].updated += self._execute(staged, "complete", statement, None)

    def _advance(self, staged: Staged, column: Column) -> None:
        """Set the sequence of a column past the inserted values."""
        assert column.sequence is not None
        numbers = sql.SQL("SELECT min({0}), max({0}) FROM {1} m WHERE m.action = 'insert'").format(
            cell("f", column.name), staged.merge
        )
        sequences.advance(self._connection, column.sequence, numbers)


def _same_cell(name: str) -> sql.Composed:
    return same(sql.SQL("ROW({})").format(cell("f", name)), sql.SQL("ROW({})").format(cell("o", name)))


def _delete_copies(staged: Staged) -> sql.Composed:
    """Delete as many copies of each row as ``merge_N`` has. Rows without a key are found by their text."""
    return sql.SQL("""
        DELETE FROM {live} o WHERE (o.tableoid, o.ctid) IN (
          SELECT c.tableoid, c.ctid FROM (
            SELECT o.tableoid, o.ctid, {image} AS image, row_number() OVER (PARTITION BY {image}) AS copy
            FROM {live} o WHERE {image} IN (SELECT m.image FROM {merge} m WHERE m.action = 'delete')) c
          JOIN (SELECT m.image, count(*) AS copies FROM {merge} m WHERE m.action = 'delete' GROUP BY 1) d
            ON d.image = c.image AND c.copy <= d.copies)
        """).format(live=staged.table.rows, image=staged.image("o"), merge=staged.merge)
