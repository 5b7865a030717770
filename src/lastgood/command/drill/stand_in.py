"""The stand-in for the live database: the restored restore point, damaged as by a failed deployment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lastgood.facts import Facts
from lastgood.postgres.roles.reader_role import reader_role
from lastgood.postgres.server import Connection, Target, quiet_event_triggers
from lastgood.text import units

# The numbers of rows to delete and to change, and of columns to try for the change.
LOST, CHANGED, TRIES = 100, 10, 5
LEFT_BEHIND = "lastgood_drill_half_a_migration"
SETTING, VALUE = "statement_timeout", "11min"

_TABLES = """
SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND NOT c.relispartition
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                  AND d.objid = c.oid AND d.deptype = 'e')
"""
_TEXTS = """
SELECT a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND a.atttypid IN ('pg_catalog.text'::pg_catalog.regtype, 'pg_catalog.varchar'::pg_catalog.regtype)
ORDER BY a.attnum
"""
_SETTING = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
               WHERE d.datname = current_database() AND s.setrole = 0 AND %s = ANY (s.setconfig))
"""


@dataclass(frozen=True, slots=True)
class _Table:
    schema: str
    name: str
    rows: int

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def break_it(target: Target, contents: Facts, *, setting: bool = True, trusted: bool = False) -> tuple[str, ...]:
    """Delete rows, change others, drop a table with its dependent objects, and leave a partial migration. Return the
    damage in words. What the database refuses is left out. ``setting``: also make a setting of the database itself, to
    be carried over. Rows are changed as a role without rights, because that runs code of the restore point; as this
    role if it is ``trusted``."""
    with ExitStack() as stack:
        connection = stack.enter_context(target.connect(application_name="lastgood drill"))
        quiet_event_triggers(connection)
        writer: Connection | None = connection
        if not trusted:
            role = stack.enter_context(reader_role(target, connection, writes=True))
            writer = stack.enter_context(role.target.connect()) if role.confined else None
        if writer is not None:
            _without_triggers(writer)
        ordinary = set(connection.execute(_TABLES).fetchall())
        tables = [
            _Table(each.schema_name, each.name, each.rows)
            for each in sorted(contents.tables, key=lambda each: (-each.rows, each.schema_name, each.name))
            if (each.schema_name, each.name) in ordinary
        ]
        # Before 17, nothing else keeps these from firing on commands that change definitions.
        always = connection.info.server_version < 170000 and connection.execute(_ALWAYS).fetchone() is not None
        name = target.dbname if setting else ""
        return tuple(_broken(connection, writer, tables, name, definitions=trusted or not always))


def kept_its_setting(connection: Connection) -> bool:
    """Whether the setting from ``break_it`` was carried over to the database that now has the name."""
    row = connection.execute(_SETTING, [f"{SETTING}={VALUE}"]).fetchone()
    return row is not None and bool(row[0])


def _without_triggers(connection: Connection) -> None:
    """Disable triggers, so that foreign keys do not prevent the damage. Without the privilege, part of it fails."""
    try:
        connection.execute("SET session_replication_role = replica")
    except psycopg.errors.InsufficientPrivilege:
        return


_ALWAYS = "SELECT FROM pg_catalog.pg_event_trigger WHERE evtenabled IN ('A', 'R')"


def _broken(
    connection: Connection, writer: Connection | None, tables: Sequence[_Table], name: str, *, definitions: bool
) -> Iterator[str]:
    if writer is not None:
        yield from _damaged(connection, writer, [each for each in tables if each.rows])
    if definitions:
        yield from _redefined(connection, tables)
    if not name:
        return
    setting = sql.SQL("ALTER DATABASE {} SET {} = {}").format(
        sql.Identifier(name), sql.Identifier(SETTING), sql.Literal(VALUE)
    )
    if _execute(connection, setting) is not None:
        yield f"no damage, but to be carried over: database setting {SETTING} = {VALUE}"


def _redefined(connection: Connection, tables: Sequence[_Table]) -> Iterator[str]:
    schema = tables[-1].schema if tables else "public"
    if (
        tables
        and len(tables) > 1
        and _execute(connection, sql.SQL("DROP TABLE {} CASCADE").format(tables[-1].identifier)) is not None
    ):
        yield f"{tables[-1]} dropped with its dependent objects"
    left = sql.Identifier(schema, LEFT_BEHIND)
    if _execute(connection, sql.SQL("CREATE TABLE {} (id int)").format(left)) is not None:
        yield f"partial migration left behind: table {schema}.{LEFT_BEHIND}"


def _damaged(connection: Connection, writer: Connection, filled: list[_Table]) -> Iterator[str]:
    for table in filled[:TRIES]:
        if (lost := _execute(writer, _lose(table))) is not None:
            yield f"{units.counted(lost, 'row')} of {table} deleted"
            filled.remove(table)
            break
    if changed := _changed(connection, writer, filled):
        yield changed


def _lose(table: _Table) -> sql.Composed:
    return sql.SQL("DELETE FROM ONLY {0} WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY {0} LIMIT {1}))").format(
        table.identifier, sql.Literal(max(1, min(LOST, table.rows // 10)))
    )


def _changed(connection: Connection, writer: Connection, tables: Sequence[_Table]) -> str:
    tried = 0
    for table in tables:
        for (column,) in connection.execute(_TEXTS, [table.schema, table.name]).fetchall():
            if tried == TRIES:
                return ""
            tried += 1
            statement = sql.SQL(
                "UPDATE ONLY {0} SET {1} = {1} || '?' WHERE ctid = ANY (ARRAY(SELECT ctid FROM ONLY {0}"
                " WHERE {1} IS NOT NULL LIMIT {2}))"
            ).format(table.identifier, sql.Identifier(column), sql.Literal(CHANGED))
            if count := _execute(writer, statement):
                return f"{units.counted(count, 'value')} of {table}.{column} changed"
    return ""


def _execute(connection: Connection, statement: sql.Composed) -> int | None:
    """Execute a statement. Return the number of rows; None if the database refused it."""
    try:
        with connection.transaction():
            return connection.execute(statement).rowcount
    except psycopg.Error:
        return None
