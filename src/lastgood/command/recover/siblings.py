"""Other databases of the same server with the same tables: a manual copy, a staging database."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from time import monotonic

import psycopg
from psycopg import sql

from lastgood.command.recover.evidence import Key, Sibling
from lastgood.command.recover.server import connect, limit, message_of, quick
from lastgood.errors import LastgoodError
from lastgood.facts import migrations
from lastgood.facts.rows_text import rows_in
from lastgood.loss.written import TimeColumn, writing_column
from lastgood.postgres import database
from lastgood.postgres.mark import read_mark
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection, Target, only_row

# A database with fewer of the tables belongs to another application.
ALIKE = 0.6
MOST = 20
SECONDS = 1.0
NEWEST_OF = 5

_TABLES = """
SELECT n.nspname, c.relname, array_agg(a.attname::text), greatest(max(c.reltuples), 0),
       coalesce(array_agg(a.attname::text) FILTER (WHERE a.atttypid IN ('timestamptz'::regtype, 'timestamp'::regtype)),
                '{}')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' GROUP BY 1, 2
"""


def find(target: Target, name: str, expected: Collection[Key], unseen: list[str]) -> tuple[Sibling, ...]:
    """Return the databases with most of the ``expected`` tables, most similar first, except shadows and kept ones."""
    if not expected:
        return ()
    until = monotonic() + SECONDS
    found: list[Sibling] = []
    try:
        with database.connect_maintenance(target, name) as maintenance:
            quick(maintenance)
            others = [
                each
                for each in database.all_databases(maintenance)
                if each.allow_connections and not each.is_template and not each.invalid and each.name != name
                and read_mark(each.comment) is None
            ][:MOST]  # fmt: skip
            for other in others:
                if monotonic() > until:
                    unseen.append(f'other databases of the server, from "{other.name}" on: time limit reached')
                    break
                with suppress(psycopg.Error), connect(target, other.name) as connection:
                    seen = _inspect(connection, other.name, expected)
                    if seen is not None:
                        found.append(seen)
    except psycopg.Error as error:
        unseen.append(f"other databases of the server: {message_of(error)}")
    except LastgoodError as error:
        unseen.append(f"other databases of the server: {error}")
    return tuple(sorted(found, key=lambda each: (-each.common, each.name)))


def _inspect(connection: Connection, name: str, expected: Collection[Key]) -> Sibling | None:
    limit(connection, 0.5)
    rows = connection.execute(_TABLES).fetchall()
    common = [row for row in rows if (row[0], row[1]) in expected]
    if len(common) < ALIKE * len(expected):
        return None
    (size,) = only_row(connection, "SELECT pg_catalog.pg_database_size(current_database())")
    migration = None
    for schema, table, columns, *_ in sorted(rows, key=lambda row: migrations.preference(row[0], row[1])):
        tool = migrations.recognise(schema, table, columns)
        if tool is not None:
            found = rows_in(connection, schema, table, tool.columns)
            migration = migrations.facts(tool, schema, table, found).version
            break
    newest: list[datetime] = []
    without = not_to_query(connection)
    for schema, table, _, _, dated in sorted(common, key=lambda row: row[3])[-NEWEST_OF:]:
        stamp = writing_column(TimeColumn(name, zoned=True) for name in dated)
        if stamp is not None and (schema, table) not in without:
            by = stamp.name
            with suppress(psycopg.Error):
                query = sql.SQL("SELECT max({})::timestamptz FROM {} WHERE {} < 'tomorrow' AND isfinite({})").format(
                    sql.Identifier(by), sql.Identifier(schema, table), sql.Identifier(by), sql.Identifier(by)
                )
                row = connection.execute(query).fetchone()
                newest += [row[0]] if row is not None and row[0] is not None else []
    return Sibling(name, size, len(common), len(expected), migration, max(newest, default=None))
