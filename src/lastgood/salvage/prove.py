"""The proof of a salvage before its commit: what was planned is there, nothing else changed, no reference is broken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from lastgood.errors import Failed, Refused
from lastgood.postgres.server import Connection
from lastgood.salvage.staged import Staged, all_of, any_of, at, cell, same
from lastgood.salvage.tables import ForeignKey, Name, Table
from lastgood.salvage.write import WrittenRows
from lastgood.text.units import counted

Counters = Mapping[int, tuple[int, int, int]]

_COUNTERS = """
SELECT c.oid::int8, pg_catalog.pg_stat_get_xact_tuples_inserted(c.oid),
       pg_catalog.pg_stat_get_xact_tuples_updated(c.oid), pg_catalog.pg_stat_get_xact_tuples_deleted(c.oid)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
"""
_HINT = "Report this as a defect, with the journal of the run."


def begin(connection: Connection) -> Counters:
    """The counters before the first write. Raises Refused where the server does not count, and the role cannot make
    it."""
    with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
        connection.execute("SET LOCAL track_counts = on")
    row = connection.execute("SELECT current_setting('track_counts')").fetchone()
    if row != ("on",):
        raise Refused(
            "cannot salvage rows: track_counts is off, so the result cannot be verified",
            hint="Connect as a superuser, or run: ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf()",
        )
    return _counters(connection)


def _counters(connection: Connection) -> Counters:
    """The rows that this session has inserted, updated and deleted so far, by table: of this transaction, and of
    earlier ones that the server has not added up yet."""
    return {oid: (inserted, updated, deleted) for oid, inserted, updated, deleted in connection.execute(_COUNTERS)}


def prove(
    connection: Connection,
    staged: Sequence[Staged],
    tables: Mapping[Name, Table],
    tallies: Mapping[int, WrittenRows],
    before: Counters,
    *,
    unchecked: bool,
) -> None:
    """Raise Failed unless every planned row is as planned, the server's counters show no other change, and, with
    ``unchecked``, every foreign key of the written rows holds."""
    for each in staged:
        _content(connection, each)
    _nothing_else(connection, tables, tallies, before)
    if unchecked:
        by_oid = {each.oid: each for each in tables.values()}
        for each in staged:
            for key in each.table.parents:
                _children(connection, each, key, by_oid[key.parent])
            for key in each.table.children:
                _parents(connection, each, key, by_oid[key.child])


def _one(connection: Connection, query: sql.Composed) -> int:
    row = connection.execute(query).fetchone()
    assert row is not None  # a count always gives a row
    return int(row[0])


def _content(connection: Connection, staged: Staged) -> None:
    if staged.key is None:
        wrong = _one(
            connection,
            sql.SQL("""
            SELECT count(*) FROM (
              SELECT image, min(copies) + sum(CASE action WHEN 'insert' THEN 1 WHEN 'delete' THEN -1 ELSE 0 END) AS n
              FROM {merge} GROUP BY 1) planned
            LEFT JOIN (SELECT {image} AS image, count(*) AS n FROM {live} o
                       WHERE {image} IN (SELECT image FROM {merge}) GROUP BY 1) found USING (image)
            WHERE planned.n <> coalesce(found.n, 0)
            """).format(merge=staged.merge, image=staged.image("o"), live=staged.table.rows),
        )
    else:
        wrong = _one(
            connection,
            sql.SQL("""
            SELECT count(*) FROM {merge} m LEFT JOIN {live} o ON {match}
            WHERE m.action IN ('insert', 'update') AND NOT {same}
            """).format(
                merge=staged.merge,
                live=staged.table.rows,
                match=staged.match("o", "f"),
                same=same(staged.row("o"), sql.SQL("m.f")),
            ),
        ) + _one(
            connection,
            sql.SQL("""
            SELECT count(*) FROM {merge} m JOIN {live} o ON {match} WHERE m.action = 'delete'
            """).format(merge=staged.merge, live=staged.table.rows, match=staged.match("o", "b")),
        )
    if wrong:
        raise Failed(
            f'cannot commit the salvage: {wrong:,} rows of "{staged.table.shown}" differ from the plan', hint=_HINT
        )


def _nothing_else(
    connection: Connection, tables: Mapping[Name, Table], tallies: Mapping[int, WrittenRows], before: Counters
) -> None:
    """Compare the server's counters with what the statements reported. A row that moves to another partition counts as
    deleted and inserted."""
    now = _counters(connection)
    done = {
        oid: tuple(a - b for a, b in zip(each, before.get(oid, (0, 0, 0)), strict=True)) for oid, each in now.items()
    }
    left = {oid for oid, each in done.items() if any(each)}
    for table in tables.values():
        tally = tallies.get(table.oid, WrittenRows())
        inserted, updated, deleted = (sum(done[oid][at] for oid in table.leaves if oid in done) for at in range(3))
        left -= set(table.leaves)
        if (inserted + updated, inserted - deleted) != (
            tally.inserted + tally.updated,
            tally.inserted - tally.deleted,
        ):
            raise Failed(
                f'cannot commit the salvage: it changed rows of "{table.shown}" that were not in the plan', hint=_HINT
            )
    if left:
        raise Failed(f"cannot commit the salvage: it changed {counted(len(left), 'table')} not in the plan", hint=_HINT)


def _children(connection: Connection, child: Staged, key: ForeignKey, parent: Table) -> None:
    """Verify the references of the written rows."""
    filled = all_of([sql.SQL("{} IS NOT NULL").format(at("c", each)) for each in key.columns])
    broken = sql.SQL("({} AND NOT EXISTS (SELECT FROM {} p WHERE {}))").format(filled, parent.rows, _refers(key))
    if key.full:
        some = any_of([sql.SQL("{} IS NOT NULL").format(at("c", each)) for each in key.columns])
        broken = any_of([broken, sql.SQL("({} AND NOT {})").format(some, filled)])
    written = (
        sql.SQL("JOIN {} m ON m.action IN ('insert', 'update') AND {}").format(child.merge, child.match("c", "f"))
        if child.key is not None
        else sql.SQL("")
    )
    _refuse(
        _one(connection, sql.SQL("SELECT count(*) FROM {} c {} WHERE {}").format(child.table.rows, written, broken)),
        child.table,
        key,
    )


def _parents(connection: Connection, parent: Staged, key: ForeignKey, child: Table) -> None:
    """Verify that no row refers to a deleted or changed one."""
    filled = all_of([sql.SQL("{} IS NOT NULL").format(at("c", each)) for each in key.columns])
    orphan = sql.SQL("{} AND NOT EXISTS (SELECT FROM {} p WHERE {})").format(filled, parent.table.rows, _refers(key))
    if parent.key is None or not set(key.referenced) <= set(parent.columns):
        rows = sql.SQL("SELECT count(*) FROM {} c WHERE {}").format(child.rows, orphan)
        _refuse(_one(connection, rows), child, key)
        return
    gone = all_of(
        [
            equality.between(cell("o", referenced), at("c", column))
            for column, referenced, equality in zip(key.columns, key.referenced, key.equalities, strict=True)
        ]
    )
    rows = sql.SQL("SELECT count(*) FROM {} m JOIN {} c ON {} WHERE m.action IN ('update', 'delete') AND {}").format(
        parent.merge, child.rows, gone, orphan
    )
    _refuse(_one(connection, rows), child, key)


def _refers(key: ForeignKey) -> sql.Composed:
    return all_of(
        [
            equality.between(at("p", referenced), at("c", column))
            for column, referenced, equality in zip(key.columns, key.referenced, key.equalities, strict=True)
        ]
    )


def _refuse(rows: int, table: Table, key: ForeignKey) -> None:
    if rows:
        raise Failed(
            f'cannot commit the salvage: {rows:,} rows of "{table.shown}" would violate the foreign key "{key.name}"',
            hint="Run the same command with --with-parents, or leave the table out with --exclude.",
        )
