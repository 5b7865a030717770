"""The list of deferred work, in a schema of its own in the database that needs it.

It follows its database through the swap, an undo and an undo of the undo. An operator can finish it from any machine,
without the restore point. The list never changes: the catalogue shows which tasks are done. The schema is dropped when
all of them are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString

import psycopg
from psycopg import sql

from lastgood.dump.deferred_task import DeferredTask
from lastgood.dump.names import Relation
from lastgood.dump.statements import Kind
from lastgood.errors import NOT_REACHED, Refused
from lastgood.load.deferred.lists import PREFIX as PREFIX
from lastgood.load.deferred.lists import TABLE
from lastgood.load.deferred.lists import runs as runs
from lastgood.load.deferred.lists import schema_of as schema_of
from lastgood.load.deferred.rights import without_event_triggers
from lastgood.postgres.server import Connection

State = Literal["open", "invalid", "done", "gone"]
"""``invalid``: an index whose build was interrupted. ``gone``: its table or constraint was dropped since."""


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task on the list, and its state."""

    later: DeferredTask
    state: State


def write(connection: Connection, run: str, items: Sequence[DeferredTask]) -> None:
    """Write the list into the connection's database, in one transaction; it replaces a list of the same run.

    Its owner is the connection's role, not the database's owner, because an operator will run its statements. Raises
    psycopg.Error.
    """
    schema = sql.Identifier(schema_of(run))
    with connection.transaction():
        forget(connection, run)
        connection.execute(sql.SQL("CREATE SCHEMA {} AUTHORIZATION CURRENT_USER").format(schema))
        connection.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
                schema,
                sql.Literal(
                    f"Deferred work of lastgood run {run}. `lastgood resume {run}` completes it and drops this schema."
                ),
            )
        )
        connection.execute(
            sql.SQL(
                "CREATE TABLE {}.{} (number integer PRIMARY KEY, kind text NOT NULL, schema_name text NOT NULL,"
                " table_name text NOT NULL, name text NOT NULL, settings text[] NOT NULL, statements text[] NOT NULL)"
            ).format(schema, sql.Identifier(TABLE))
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                sql.SQL("INSERT INTO {}.{} VALUES (%s, %s, %s, %s, %s, %s, %s)").format(schema, sql.Identifier(TABLE)),
                [
                    (
                        number,
                        str(each.kind),
                        each.table.schema,
                        each.table.name,
                        each.name,
                        list(each.settings),
                        list(each.statements),
                    )
                    for number, each in enumerate(items, 1)
                ],
            )


def forget(connection: Connection, run: str) -> None:
    """Drop the list of a run, if it exists; never other objects in its schema."""
    schema = sql.Identifier(schema_of(run))
    with connection.transaction():
        found = connection.execute("SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = %s", [schema_of(run)])
        if found.fetchone() is not None:
            with without_event_triggers(connection):
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}.{}").format(schema, sql.Identifier(TABLE)))
                connection.execute(sql.SQL("DROP SCHEMA {}").format(schema))


_TASKS: LiteralString = """
SELECT u.kind, u.schema_name, u.table_name, u.name, u.settings, u.statements,
       CASE WHEN t.oid IS NULL THEN 'gone'
            WHEN u.kind = 'index' AND x.indexrelid IS NULL THEN 'open'
            WHEN u.kind = 'index' THEN CASE WHEN x.indisvalid THEN 'done' ELSE 'invalid' END
            WHEN k.oid IS NULL THEN 'gone'
            WHEN k.convalidated THEN 'done' ELSE 'open' END
FROM {}.{} u
LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = u.schema_name
LEFT JOIN pg_catalog.pg_class t ON t.relnamespace = n.oid AND t.relname = u.table_name
LEFT JOIN pg_catalog.pg_class c ON u.kind = 'index' AND c.relnamespace = n.oid AND c.relname = u.name
LEFT JOIN pg_catalog.pg_index x ON x.indexrelid = c.oid AND x.indrelid = t.oid
LEFT JOIN pg_catalog.pg_constraint k
  ON u.kind <> 'index' AND k.conrelid = t.oid AND k.conname = u.name AND k.contype = 'f'
"""


def read(connection: Connection, run: str) -> tuple[ListedTask, ...]:
    """The list of a run, each task with its present state.

    Raises Refused for a list of another role, and for one that lastgood does not write: it may have come with a dump.
    """
    schema = schema_of(run)
    if run not in runs(connection):
        raise Refused(
            f'cannot read the deferred work of run "{run}": the table "{schema}"."{TABLE}" belongs to another role, or '
            "has definitions that lastgood does not make",
            hint="Connect as the role that began the run.",
            state=NOT_REACHED,
        )
    query = sql.SQL(_TASKS + "ORDER BY u.number").format(sql.Identifier(schema), sql.Identifier(TABLE))
    try:
        rows = connection.execute(query).fetchall()
    except psycopg.errors.InsufficientPrivilege as error:
        raise Refused(
            f'cannot read the deferred work of run "{run}": {error.diag.message_primary}',
            hint="Connect as a superuser, or as the role that began the run.",
            state=NOT_REACHED,
        ) from error
    tasks = [_task(row) for row in rows]
    if None in tasks:
        raise Refused(
            f'cannot finish run "{run}": its list in "{connection.info.dbname}" has statements that lastgood '
            "does not write",
            hint=f'Check the table "{schema}"."{TABLE}"; if it is not needed, run: DROP SCHEMA "{schema}" CASCADE',
            state=NOT_REACHED,
        )
    return tuple(task for task in tasks if task is not None)


def _task(row: Sequence[Any]) -> ListedTask | None:
    kind, schema, table, name, settings, statements, state = row
    if kind not in (Kind.INDEX, Kind.FOREIGN_KEY) or not statements:
        return None
    later = DeferredTask(Kind(kind), Relation(schema, table), name, tuple(settings), tuple(statements))
    return ListedTask(later, state) if later.is_allowed else None


def state_of(connection: Connection, run: str, later: DeferredTask) -> State:
    """The present state of one task."""
    query = sql.SQL(_TASKS + "WHERE (u.kind, u.schema_name, u.table_name, u.name) = (%s, %s, %s, %s)").format(
        sql.Identifier(schema_of(run)), sql.Identifier(TABLE)
    )
    row = connection.execute(query, [str(later.kind), later.table.schema, later.table.name, later.name]).fetchone()
    return row[-1] if row is not None else "gone"
