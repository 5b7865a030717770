"""What a rollback takes away, table by table: the live database as it is now against the restore point's facts.

The live database is no oracle (it is broken, that is why one rolls back); it is read only to show the difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import psycopg
from psycopg import IsolationLevel, sql

from lastgood.facts import Facts, TableFacts
from lastgood.members import HeldRows
from lastgood.plan import TableLoss
from lastgood.postgres.server import Connection
from lastgood.postgres.sessions import shut_tables
from lastgood.repairs import extensions

COUNT_TIMEOUT = "60s"
# A table that somebody holds (a migration left open) must not keep the plan from being shown.
LOCK_TIMEOUT = "2s"
# Classes of SQLSTATE: damaged data, and files that the server can't read.
DAMAGE = ("XX", "58")
# A row's own time of birth tells best what was written since; a change of an old row comes after.
BIRTH = (
    "created_at",
    "inserted_at",
    "createdat",
    "created",
    "created_on",
    "date_created",
    "occurred_at",
    "happened_at",
    "logged_at",
    "ts",
)
CHANGE = ("updated_at", "modified_at", "updatedat", "updated", "changed_at")

_TABLES = """
SELECT n.nspname, c.relname, greatest(c.reltuples, 0)::int8, c.relkind, c.relispartition
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_toast'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1, 2
"""


def losses(live: Connection, facts: Facts, held: Sequence[HeldRows] = ()) -> tuple[TableLoss, ...]:
    """One entry for each table of either side that carries rows, and of ``held``: tables of extensions with rows that
    no dump holds. Rows of such a table that are in no dump count on both sides: they are copied over.

    A count that takes more than a minute, or of a table that another session has locked against readers, or that is
    damaged, is the server's estimate. ``live`` is put into one read-only snapshot.
    """
    live.isolation_level = IsolationLevel.REPEATABLE_READ
    live.read_only = True
    expected = {(t.schema_name, t.name): t for t in facts.tables}
    found = []
    with live.transaction():
        live.execute("SET LOCAL row_security = off")
        live.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        shut = {(each.schema, each.name) for each in shut_tables(live)}
        rows = live.execute(_TABLES).fetchall()
        there = {(schema, name) for schema, name, *_ in rows}
        roots = {key for key in expected if any(r[3] == "p" and (r[0], r[1]) == key for r in rows)}
        for schema, name, estimate, kind, is_leaf in rows:
            key = (schema, name)
            if kind == "p" and key not in roots:
                continue  # its leaves are counted
            if is_leaf and roots and key not in expected:
                continue  # counted through its root, as the dump does
            point = expected.get(key)
            count, since, by, unreadable = estimate, None, None, ""
            if key not in shut:
                try:
                    count = _count(live, schema, name, estimate, whole=kind == "p")
                    since, by = _written_since(live, point, count)
                except psycopg.Error as error:
                    if (error.sqlstate or "")[:2] not in DAMAGE:
                        raise
                    unreadable = error.diag.message_primary or str(error)
            found.append(
                TableLoss(
                    schema_name=schema,
                    name=name,
                    live_rows=count,
                    point_rows=point.rows if point is not None else None,
                    written_since=since,
                    by=by,
                    unreadable=unreadable,
                )
            )
        found += _of_extensions(live, expected, held)
    there |= {(loss.schema_name, loss.name) for loss in found}
    for (schema, name), table in expected.items():
        if (schema, name) not in there:
            found.append(TableLoss(schema_name=schema, name=name, live_rows=None, point_rows=table.rows))
    return tuple(sorted(found, key=lambda loss: (loss.schema_name, loss.name)))


def _of_extensions(
    live: Connection, expected: Mapping[tuple[str, str], TableFacts], held: Sequence[HeldRows]
) -> Iterator[TableLoss]:
    rows = {(each.schema_name, each.name): each for each in held}
    for relation, condition in extensions.configuration(live).items():
        point = expected.get((relation.schema, relation.name))
        if point is None:
            continue
        table = sql.Identifier(relation.schema, relation.name)
        # The condition is the extension's own text, from the catalogue: pg_dump reads the rows with it.
        dumped = sql.SQL("SELECT count(*) FROM ONLY {} {}").format(table, sql.SQL(condition))
        query = sql.SQL("SELECT ({}), (SELECT count(*) FROM ONLY {})").format(dumped, table)
        try:
            with live.transaction():
                count, total = live.execute(query).fetchone() or (0, 0)
                since, by = _written_since(live, point, count)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            continue
        yield TableLoss(
            schema_name=relation.schema,
            name=relation.name,
            live_rows=total,
            point_rows=point.rows + total - count,
            written_since=since,
            by=by,
            not_in_dumps=rows.pop((relation.schema, relation.name)).rows
            if (relation.schema, relation.name) in rows
            else 0,
        )
    for each in rows.values():
        yield TableLoss(
            schema_name=each.schema_name,
            name=each.name,
            live_rows=each.outside,
            point_rows=each.outside,
            not_in_dumps=each.rows,
        )


def _count(live: Connection, schema: str, name: str, estimate: int, *, whole: bool) -> int:
    table = sql.Identifier(schema, name)
    query = sql.SQL("SELECT count(*) FROM {}{}").format(sql.SQL("" if whole else "ONLY "), table)
    try:
        with live.transaction():
            live.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(COUNT_TIMEOUT))
            row = live.execute(query).fetchone()
    except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
        return estimate
    return int(row[0]) if row is not None else 0


def _written_since(live: Connection, point: TableFacts | None, count: int) -> tuple[int | None, str | None]:
    """Rows of the live table that are newer than everything in the restore point, by its most telling column."""
    if point is None:
        return None, None
    if point.rows == 0:
        return count, None
    for column in _telling(point):
        query = sql.SQL("SELECT count(*) FROM {} WHERE {} > {}").format(
            sql.Identifier(point.schema_name, point.name), sql.Identifier(column), sql.Literal(point.newest[column])
        )
        try:
            with live.transaction():
                live.execute(sql.SQL("SET LOCAL statement_timeout = {}").format(COUNT_TIMEOUT))
                row = live.execute(query).fetchone()
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            break
        except psycopg.Error as error:
            if (error.sqlstate or "")[:2] in DAMAGE:
                raise
            continue  # the column is gone or has another type in the live table: another one may tell
        return (int(row[0]) if row is not None else None), column
    return None, None


def _telling(point: TableFacts) -> Iterator[str]:
    """Columns that may say when a row was written, the best first; the only time stamp of a table whatever its name."""
    by_name = {name.lower(): name for name in point.newest}
    named = [by_name[name] for name in (*BIRTH, *CHANGE) if name in by_name]
    stamps = [name for name, newest in point.newest.items() if ":" in newest]
    yield from named or (stamps if len(stamps) == 1 else [])
