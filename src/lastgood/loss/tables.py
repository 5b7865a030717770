"""The tables of the live database, with their row counts and the rows written after each restore point. Plans and
``recover`` both count here, so that their numbers agree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from lastgood.facts import Facts
from lastgood.loss import by_copy
from lastgood.loss.written import Clock, Since, TimeColumn, WriteTime, writing_column
from lastgood.points import RestorePoint
from lastgood.postgres.mark import schemas_of_runs
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection, only_row

Key = tuple[str, str]
"""Schema and name of a table."""

# Large objects count as rows of the catalogue with one row for each: a dump without them loses them all.
LARGE_OBJECTS: Key = ("pg_catalog", "pg_largeobject_metadata")
_LARGE_OBJECTS = "SELECT count(*) FROM pg_catalog.pg_largeobject_metadata"
# The time limit for checking whether a table is empty when there is no time to count it.
GLANCE_SECONDS = 0.2

# The server gives no text of a default while its table is locked against readers; a migration may lock many tables.
_TABLES = """
WITH shut AS MATERIALIZED (
  SELECT DISTINCT l.relation FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
    AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))
SELECT n.nspname, c.relname, c.relkind = 'p', c.reltuples::int8, c.relpages::int8 * 8192, pn.nspname, p.relname,
       (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''),
       (SELECT coalesce(array_agg(ARRAY[a.attname::text, CASE WHEN a.atttypid = 'timestamptz'::regtype THEN 'z' ELSE ''
                                        END, CASE WHEN %s AND c.oid NOT IN (SELECT relation FROM shut)
                                               THEN coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '')
                                               ELSE '' END]
                                  ORDER BY a.attnum), '{}')
        FROM pg_catalog.pg_attribute a
        LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated = ''
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
          AND a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_class p
  ON c.relispartition AND c.relkind = 'r' AND p.oid = pg_catalog.pg_partition_root(c.oid)
LEFT JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relpages, 1, 2
"""


@dataclass(frozen=True, slots=True)
class LiveTable:
    """A table that carries rows. ``rows`` is the server's estimate unless ``exact``, None without an estimate (never
    analyzed). ``since``: for each restore point, the rows written after it according to the time stamps in ``by``;
    empty without such a column. ``root``: the partitioned table that it belongs to; a ``partitioned`` table has the
    rows of its partitions. ``unreadable``: the server's error if its rows can't be read."""

    rows: int | None
    exact: bool
    bytes: int
    root: Key | None = None
    partitioned: bool = False
    by: str = ""
    newest: datetime | None = None
    since: tuple[int, ...] = ()
    columns: tuple[str, ...] = ()
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Then:
    """The part of a restore point that the counts need. ``exact``: its time is the server's own."""

    facts: Facts | None
    made_at: datetime
    exact: bool = False

    @classmethod
    def of(cls, point: RestorePoint, facts: Facts | None) -> Then:
        """The part of ``point``, with its ``facts`` if they are known."""
        return cls(facts, point.made_at, point.time_source == "manifest")


def listing(connection: Connection) -> tuple[dict[Key, LiveTable], dict[Key, TimeColumn]]:
    """All tables with the server's estimates, the smallest first; and for each the column with the time of writing.
    Without the schemas of runs in place."""
    ours = schemas_of_runs(connection)
    tables: dict[Key, LiveTable] = {}
    stamps: dict[Key, TimeColumn] = {}
    for schema, name, partitioned, estimate, size, root_schema, root, columns, dated in _listed(connection):
        if schema in ours:
            continue
        tables[schema, name] = LiveTable(
            rows=estimate if estimate >= 0 else None,
            exact=False,
            bytes=size,
            root=(root_schema, root) if root is not None else None,
            partitioned=partitioned,
            columns=tuple(columns),
        )
        by = writing_column(TimeColumn(column, zoned == "z", default) for column, zoned, default in dated)
        if by is not None:
            stamps[schema, name] = by
    row = connection.execute(_LARGE_OBJECTS).fetchone()
    if row is not None and row[0]:
        tables[LARGE_OBJECTS] = LiveTable(rows=row[0], exact=True, bytes=0)
    return tables, stamps


def _listed(connection: Connection) -> list[tuple[Any, ...]]:
    try:
        with connection.transaction():
            return connection.execute(_TABLES, [True]).fetchall()
    except psycopg.errors.LockNotAvailable:  # locked after pg_locks was read: use the column names alone
        return connection.execute(_TABLES, [False]).fetchall()


def counted(
    connection: Connection,
    tables: Mapping[Key, LiveTable],
    stamps: Mapping[Key, TimeColumn],
    points: Sequence[Then],
    *,
    shut: Collection[Key],
    seconds: Callable[[], float],
    trouble: Callable[[Key, psycopg.Error], str],
) -> dict[Key, LiveTable]:
    """The same tables with exact rows, and with those written after each of ``points``. ``seconds``: the time limit of
    the next count. A count that exceeds it, or a table in ``shut``, keeps the server's estimate. ``trouble`` gets every
    other error and raises it, or returns why the table is unreadable (empty: the table is not the cause)."""
    clock = Clock.read(connection)
    then = [_by_name(point) for point in points]
    found = dict(tables)
    only_copy = not_to_query(connection)
    for key, table in tables.items():
        if table.partitioned or key in shut or key == LARGE_OBJECTS:
            continue
        before = [each.get(key) or each.get(table.root or key) for each in then]
        written = _write_time(stamps.get(key), clock, points, before)
        count = _count_by_copy if key in only_copy else _count
        try:
            if (left := seconds()) <= 0:
                raise psycopg.errors.QueryCanceled("no time left")
            with connection.transaction():
                _limited(connection, left)
                found[key] = _with_counts(table, written, before, *count(connection, key, table, written))
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            found[key] = table if key in only_copy else _at_a_glance(connection, key, table)
        except psycopg.Error as error:
            found[key] = replace(table, unreadable=trouble(key, error))
    return _with_roots(found)


@dataclass(frozen=True, slots=True)
class _Before:
    """A table in a restore point."""

    rows: int
    newest: Mapping[str, str]


def _by_name(point: Then) -> dict[Key, _Before]:
    tables = point.facts.tables if point.facts is not None else ()
    return {(each.schema_name, each.name): _Before(each.rows, each.newest) for each in tables}


def _write_time(
    by: TimeColumn | None, clock: Clock, points: Sequence[Then], before: Sequence[_Before | None]
) -> WriteTime | None:
    if by is None:
        return None
    since = (
        Since(point.made_at, there.newest.get(by.name) if there is not None else None, point.exact)
        for point, there in zip(points, before, strict=True)
    )
    return WriteTime(by, clock, tuple(since))


_Counts = tuple[int, datetime | None, Sequence[int]]
"""The rows; the newest time; the rows written after each restore point. Without a time, only the first counts."""


def _count(connection: Connection, key: Key, table: LiveTable, written: WriteTime | None) -> _Counts:
    parts = [sql.SQL("count(*)"), *(written.counts() if written is not None else ())]
    query = sql.SQL("SELECT {} FROM ONLY {}").format(sql.SQL(", ").join(parts), sql.Identifier(*key))
    row = only_row(connection, query)
    return row[0], row[1] if written is not None else None, row[2:]


def _count_by_copy(connection: Connection, key: Key, table: LiveTable, written: WriteTime | None) -> _Counts:
    return by_copy.count(connection, sql.Identifier(*key), next(iter(table.columns), None), written)


def _with_counts(
    table: LiveTable,
    written: WriteTime | None,
    before: Sequence[_Before | None],
    rows: int,
    newest: datetime | None,
    counts: Sequence[int],
) -> LiveTable:
    if written is None:
        return replace(table, rows=rows, exact=True)
    since = tuple(
        rows if there is not None and not there.rows else count
        for there, count in zip(before, counts, strict=True)
    )  # fmt: skip
    return replace(table, rows=rows, exact=True, by=written.by.name, newest=newest, since=since)


def _at_a_glance(connection: Connection, key: Key, table: LiveTable) -> LiveTable:
    """The table without a count, but with 0 rows if it is empty."""
    query = sql.SQL("SELECT FROM ONLY {} LIMIT 1").format(sql.Identifier(*key))
    try:
        with connection.transaction():
            _limited(connection, GLANCE_SECONDS)
            empty = connection.execute(query).fetchone() is None
    except psycopg.Error:
        return table
    return replace(table, rows=0, exact=True) if empty else table


def _limited(connection: Connection, seconds: float) -> None:
    limit = f"{max(50, round(seconds * 1000))}ms"
    connection.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(limit)))


def _with_roots(tables: dict[Key, LiveTable]) -> dict[Key, LiveTable]:
    """Give partitioned tables the rows of their partitions."""
    for key, table in list(tables.items()):
        if table.partitioned:
            parts = [each for each in tables.values() if each.root == key]
            known = [each.rows for each in parts if each.rows is not None]
            since = [each.since for each in parts]
            dated = bool(since) and all(since)
            tables[key] = replace(
                table,
                rows=sum(known) if len(known) == len(parts) else None,
                exact=all(each.exact for each in parts),
                bytes=sum(each.bytes for each in parts),
                by=parts[0].by if dated else "",
                since=tuple(map(sum, zip(*since, strict=True))) if dated else (),
                unreadable=next((each.unreadable for each in parts if each.unreadable), ""),
            )
    return tables
