"""References between rows of a salvage: parents that come with their children, rows that miss theirs, new numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from psycopg import sql

from lastgood.postgres.server import Connection
from lastgood.salvage import sequences
from lastgood.salvage.merge import can_renumber
from lastgood.salvage.policy import Collision
from lastgood.salvage.staged import Changed, Staged, all_of, analyze, any_of, at, cell, same, same_value
from lastgood.salvage.tables import ForeignKey, Key, Name, Table

NOT_CHOSEN = "not chosen"


class References:
    """The foreign keys of the staged tables. ``tables`` are all tables of the live database."""

    def __init__(self, connection: Connection, staged: Sequence[Staged], tables: Mapping[Name, Table]) -> None:
        self._connection = connection
        self._staged = {each.table.oid: each for each in staged}
        self._tables = {each.oid: each for each in tables.values()}

    def settle(self, *, with_parents: bool) -> None:
        """Add the parents of chosen rows, and take out rows whose references would be wrong, until nothing changes."""
        while with_parents and any(self._add_parents(*pair) for pair in self._pairs()):
            pass
        for each in self._staged.values():
            for key in each.table.unique:
                self._take_out_doubles(each, key)
        keys = [(parent, key) for parent in self._staged.values() for key in parent.table.children]
        while any(self._take_out_orphans(*pair) for pair in self._pairs()) or any(
            self._keep_parents(*pair) for pair in keys
        ):
            pass

    def _changed_rows(self, staged: Staged, statement: sql.Composed) -> int:
        """Execute a statement that changes decisions, and return the number of rows. With the statistics of before,
        the server would expect no such rows, and join them one by one."""
        rows = self._connection.execute(statement).rowcount
        if rows:
            analyze(self._connection, staged)
        return rows

    def _pairs(self) -> Iterator[tuple[Staged, ForeignKey]]:
        for child in self._staged.values():
            for key in child.table.parents:
                if set(key.columns) <= set(child.columns):
                    yield child, key

    def renumber(self, *, draw: bool) -> None:
        """Give the rows that are inserted in spite of a collision their new keys, and rewrite the references to them.
        With ``draw`` the numbers come from the sequence; otherwise they only show how many there are."""
        for parent in self._staged.values():
            if can_renumber(parent):
                self._new_keys(parent, draw=draw)
        for child, key in self._pairs():
            referenced = self._staged.get(key.parent)
            if referenced is not None and referenced.key is not None and key.referenced == referenced.key.columns:
                self._rewrite(child, key, referenced)

    def _new_keys(self, parent: Staged, *, draw: bool) -> None:
        assert parent.key is not None
        name = parent.key.columns[0]
        column = parent.table.column(name)
        assert column.sequence is not None
        numbers = sql.SQL("""
            SELECT least((SELECT min({name}) FROM {live}), (SELECT min({their}) FROM {merge} m)),
                   greatest((SELECT max({name}) FROM {live}), (SELECT max({their}) FROM {merge} m))
            """).format(name=sql.Identifier(name), live=parent.table.rows, merge=parent.merge, their=cell("t", name))
        if draw:
            sequences.advance(self._connection, column.sequence, numbers)
        self._connection.execute(
            sql.SQL("""
            UPDATE {merge} m SET f.{name} = {number}, renumbered = true
            FROM (SELECT rid, row_number() OVER (ORDER BY rid) AS place FROM {merge}
                  WHERE action = 'insert' AND state = 'insert_exists') n, ({numbers}) known (low, high)
            WHERE n.rid = m.rid
            """).format(
                merge=parent.merge,
                name=sql.Identifier(name),
                number=sql.SQL("pg_catalog.nextval({}::pg_catalog.regclass)").format(sql.Literal(column.sequence))
                if draw
                else sql.SQL("known.high + n.place"),
                numbers=numbers,
            )
        )

    def _rewrite(self, child: Staged, key: ForeignKey, parent: Staged) -> None:
        (column,), (referenced,), (equality,) = key.columns, key.referenced, key.equalities
        self._connection.execute(
            sql.SQL("""
            UPDATE {child} m SET f.{column} = {new}
            FROM {parent} p
            WHERE p.renumbered AND m.action IN ('insert', 'update') AND {theirs} AND {same}
            """).format(
                child=child.merge,
                column=sql.Identifier(column),
                new=cell("f", referenced, "p"),
                parent=parent.merge,
                theirs=_from_theirs(key),
                same=equality.between(cell("t", referenced, "p"), cell("t", column)),
            )
        )

    def _add_parents(self, child: Staged, key: ForeignKey) -> int:
        parent = self._staged.get(key.parent)
        if parent is None or not set(key.referenced) <= set(parent.columns):
            return 0
        return self._changed_rows(
            parent,
            sql.SQL("""
            UPDATE {parent} p SET action = 'insert', why = NULL
            WHERE p.action IS NULL AND p.kind = 'insert' AND p.state = 'ready' AND p.why = {not_chosen}
              AND EXISTS (SELECT FROM {child} m WHERE m.action IN ('insert', 'update') AND {refers})
            """).format(
                parent=parent.merge,
                child=child.merge,
                not_chosen=sql.Literal(NOT_CHOSEN),
                refers=_refers(key, "f", "p", "t"),
            ),
        )

    def _take_out_orphans(self, child: Staged, key: ForeignKey) -> int:
        """Take out rows that would refer to no row, or to another row than in theirs."""
        # One statement for each cause: the server joins conjunctions, and looks up disjunctions row by row.
        parent, live = self._staged.get(key.parent), self._tables[key.parent].rows
        present = sql.SQL("EXISTS (SELECT FROM {live} p WHERE {refers})").format(
            live=live,
            refers=all_of(
                [
                    equality.between(at("p", referenced), cell("f", column))
                    for column, referenced, equality in zip(key.columns, key.referenced, key.equalities, strict=True)
                ]
            ),
        )
        if parent is None or not set(key.referenced) <= set(parent.columns):
            return self._take_out(child, key, "parent_missing", sql.SQL("NOT {}").format(present))
        differs = sql.SQL("{} AND {}").format(
            _from_theirs(key),
            _exists(parent, "p.state = 'insert_exists' AND p.action IS NULL", _refers(key, "t", "p", "t")),
        )
        arrives = _exists(parent, "p.action IN ('insert', 'update')", _refers(key, "f", "p", "f"))
        leaves = _exists(parent, "p.action = 'delete'", _refers(key, "f", "p", "b"))
        return (
            self._take_out(child, key, "parent_differs", differs)
            + self._take_out(child, key, "parent_missing", sql.SQL("NOT {} AND NOT {}").format(arrives, present))
            + self._take_out(child, key, "parent_missing", sql.SQL("NOT {} AND {}").format(arrives, leaves))
        )

    def _take_out(self, child: Staged, key: ForeignKey, why: Collision, condition: sql.Composable) -> int:
        return self._changed_rows(
            child,
            sql.SQL("""
            UPDATE {child} m SET action = NULL, why = {why}
            WHERE m.action IN ('insert', 'update') AND {complete} AND {changed} AND {condition}
            """).format(
                child=child.merge,
                why=sql.Literal(why),
                complete=all_of([sql.SQL("{} IS NOT NULL").format(cell("f", each)) for each in key.columns]),
                changed=_changed(key),
                condition=condition,
            ),
        )

    def _keep_parents(self, parent: Staged, key: ForeignKey) -> int:
        """Take out deletions of rows to which rows of the live database still refer."""
        if not set(key.referenced) <= set(parent.columns):
            return 0
        child, table = self._staged.get(key.child), self._tables[key.child]
        known = child is not None and set(key.columns) <= set(child.columns)
        leaves = _leaves(child, key) if known and child is not None else sql.SQL("false")
        refers = all_of(
            [
                equality.between(cell("b", referenced, "p"), at("c", column))
                for column, referenced, equality in zip(key.columns, key.referenced, key.equalities, strict=True)
            ]
        )
        return self._changed_rows(
            parent,
            sql.SQL("""
            UPDATE {parent} p SET action = NULL, why = 'child_exists'
            WHERE p.action = 'delete' AND {gone}
              AND EXISTS (SELECT FROM {live} c WHERE {refers} AND NOT {leaves})
            """).format(
                parent=parent.merge,
                # A row that is deleted and inserted with the same key stays.
                gone=sql.SQL("NOT {}").format(
                    _exists(parent, "q.action = 'insert'", _same_key(parent, key), alias="q")
                ),
                live=table.rows,
                refers=refers,
                leaves=leaves,
            ),
        )

    def _take_out_doubles(self, staged: Staged, key: Key) -> None:
        """Take out rows whose value must be unique and belongs to another row that stays."""
        if staged.key is None or not set(key.columns) <= set(staged.columns):
            return
        equal = all_of(
            [
                _equal_or_null(equality.between(at("o", column), cell("f", column)), at("o", column), cell("f", column))
                if key.nulls_equal
                else equality.between(at("o", column), cell("f", column))
                for column, equality in zip(key.columns, key.equalities, strict=True)
            ]
        )
        changed = sql.SQL("NOT {}").format(
            same(_row("f", key.columns), _row("o", key.columns)),
        )
        self._changed_rows(
            staged,
            sql.SQL("""
            UPDATE {merge} m SET action = NULL, why = 'unique_exists'
            WHERE m.action IN ('insert', 'update') AND (m.action = 'insert' OR {changed})
              AND EXISTS (SELECT FROM {live} o WHERE {equal} AND NOT EXISTS (
                SELECT FROM {merge} q WHERE q.action IN ('update', 'delete') AND {itself}))
            """).format(
                merge=staged.merge,
                changed=changed,
                live=staged.table.rows,
                equal=equal,
                itself=staged.match("o", "o", "q"),
            ),
        )


def with_known_keys(connection: Connection, staged: Sequence[Staged], changed: Sequence[Changed]) -> None:
    """Give rows that an earlier salvage brought back under new keys these keys again, and to the references that theirs
    wrote: then they are there already."""
    for parent, rows in zip(staged, changed, strict=True):
        if rows.renumbered is None or parent.key is None:
            continue
        name, equality = parent.key.columns[0], parent.key.equalities[0]
        there = sql.SQL("EXISTS (SELECT FROM {} o WHERE {})").format(
            parent.table.rows, equality.between(at("o", name), at("r", "new"))
        )
        targets = [(parent, name, [equality])] + [
            (child, key.columns[0], list(key.equalities))
            for child in staged
            for key in child.table.parents
            if key.parent == parent.table.oid
            and key.referenced == parent.key.columns
            and set(key.columns) <= set(child.columns)
            and child.key is not None
        ]
        for child, column, (operator,) in targets:
            connection.execute(
                sql.SQL("""
                UPDATE {theirs} t SET {column} = r.new FROM {renumbered} r
                WHERE {old} AND {there} AND NOT EXISTS (SELECT FROM {base} b WHERE {same_row} AND {same_value})
                """).format(
                    theirs=child.temporary("theirs"),
                    column=sql.Identifier(column),
                    renumbered=parent.temporary("renumbered"),
                    old=operator.between(at("r", "old"), at("t", column)),
                    there=there,
                    base=child.temporary("base"),
                    same_row=child.same_key("b", "t"),
                    same_value=same_value(at("b", column), at("t", column)),
                )
            )


def _equal_or_null(equal: sql.Composable, one: sql.Composable, other: sql.Composable) -> sql.Composed:
    """Whether two values are equal, or both NULL, for a key with NULLS NOT DISTINCT."""
    return sql.SQL("({} OR ({} IS NULL AND {} IS NULL))").format(equal, one, other)


def _row(row: str, columns: Sequence[str], alias: str = "m") -> sql.Composed:
    return sql.SQL("ROW({})").format(sql.SQL(", ").join(cell(row, each, alias) for each in columns))


def _exists(staged: Staged, condition: str, refers: sql.Composable, *, alias: str = "p") -> sql.Composed:
    return sql.SQL("EXISTS (SELECT FROM {} {} WHERE {} AND {})").format(
        staged.merge,
        sql.Identifier(alias),
        sql.SQL(condition),
        refers,
    )


def _refers(key: ForeignKey, row: str, parent: str, parent_row: str) -> sql.Composed:
    """Whether the row ``row`` of ``m`` refers to the row ``parent_row`` of the merge with the alias ``parent``."""
    return all_of(
        [
            equality.between(cell(parent_row, referenced, parent), cell(row, column))
            for column, referenced, equality in zip(key.columns, key.referenced, key.equalities, strict=True)
        ]
    )


def _same_key(parent: Staged, key: ForeignKey) -> sql.Composed:
    """Whether the new row ``q.f`` has the referenced values of the old row ``p.b``, by the operators of the unique key:
    the server joins by them, and would compare the images of rows pair by pair."""
    unique = [parent.table.key, *parent.table.unique]
    (known, *_) = (each for each in unique if each is not None and set(each.columns) == set(key.referenced))
    return all_of(
        [
            equality.between(cell("f", name, "q"), cell("b", name, "p"))
            for name, equality in zip(known.columns, known.equalities, strict=True)
        ]
    )


def _leaves(child: Staged, key: ForeignKey) -> sql.Composed:
    """Whether the row ``c`` of the live database no longer has its reference after the salvage. Of rows without a key,
    all copies must go."""
    if child.key is None:
        return sql.SQL(
            "{} IN (SELECT m.image FROM {} m WHERE m.action = 'delete' GROUP BY 1 HAVING count(*) >= max(m.copies))"
        ).format(child.image("c"), child.merge)
    return sql.SQL(
        "EXISTS (SELECT FROM {} m WHERE (m.action = 'delete' OR (m.action = 'update' AND {})) AND {})"
    ).format(child.merge, _changed(key), child.match("c", "o"))


def _changed(key: ForeignKey) -> sql.Composed:
    """Whether the reference differs from the one in ours. An inserted row has none in ours."""
    return sql.SQL("(m.action = 'insert' OR NOT {})").format(same(_row("f", key.columns), _row("o", key.columns)))


def _from_theirs(key: ForeignKey) -> sql.Composed:
    """Whether the reference was written by theirs."""
    return any_of(
        [
            sql.SQL("m.kind = 'insert'"),
            sql.SQL("NOT {}").format(same(_row("b", key.columns), _row("t", key.columns))),
        ]
    )
