"""Foreign keys from the schemas that go back to tables that stay.

They are no part of a staged definition. In staging they are added one by one with bounded waits, because writers of the
platform's table queue behind each wait for its lock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, LiteralString

import psycopg
from psycopg import errors, sql

from lastgood.dump.names import Relation, quoted
from lastgood.dump.rulings.tree import parse
from lastgood.dump.script import ScriptStep
from lastgood.dump.statements import NEXT, ForeignKeyDefinition, Kind
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed, Interrupted
from lastgood.in_place.ties import TiedKey
from lastgood.postgres.errors import message_of
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection, event_triggers_off
from lastgood.text.redact import visible

LOCK_TIMEOUT = "2s"
TRIES = 10
PAUSE_SECONDS = 1.0
# Before, a partitioned table can't have a foreign key that is NOT VALID.
NOT_VALID_ON_PARTITIONED = 180000

_STATE = """
SELECT k.convalidated, c.relkind = 'p' FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_constraint k ON k.conrelid = c.oid AND k.contype = 'f' AND k.conname = %s
WHERE n.nspname = %s AND c.relname = %s
"""
# The server's own types and casts have OIDs below this one.
_OF_OTHERS = """
SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %s AND c.relname = %s AND a.attname = ANY (%s)
  AND (a.atttypid >= 16384
       OR EXISTS (SELECT FROM pg_catalog.pg_cast t WHERE t.oid >= 16384 AND t.castsource = a.atttypid))
"""
_CAST = """
SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
JOIN pg_catalog.pg_cast k ON k.castsource IN (t.oid, t.typbasetype)
WHERE n.nspname = %s AND c.relname = %s AND a.attname = ANY (%s) AND k.castfunc >= 16384
"""
_TO_OUTSIDE = """
SELECT n.nspname, c.relname, k.conname FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_class f ON f.oid = k.confrelid JOIN pg_catalog.pg_namespace fn ON fn.oid = f.relnamespace
WHERE k.contype = 'f' AND k.conparentid = 0 AND n.nspname = ANY (%s) AND fn.nspname <> ALL (%s)
ORDER BY 1, 2, 3
"""

Action = Literal["cascade", "set null", "set default", "no action", "restrict"]
_ACTIONS: Mapping[str, Action] = {
    "c": "cascade",
    "n": "set null",
    "d": "set default",
    "a": "no action",
    "r": "restrict",
}


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """A foreign key from a table that goes back to one that does not. ``table`` is in its staging schema, ``live`` is
    its live name.

    ``command`` adds it, and ``comment`` sets its comment, in the server's own text. ``set_columns``: the columns that
    ON DELETE SET changes, empty for all.
    """

    name: str
    table: Relation
    columns: tuple[str, ...]
    references: Relation
    keys: tuple[str, ...]
    on_delete: Action
    set_columns: tuple[str, ...]
    validated: bool
    command: bytes
    comment: bytes | None = None
    live: Relation | None = None

    @property
    def what(self) -> str:
        """The key for a message."""
        return f"foreign key {quoted(self.name)} of {self.live or self.table}"


def being_deleted(key: PlatformKey) -> Failed:
    """The error for a key whose parents disappear again and again."""
    return Failed(
        f"cannot validate {visible(key.what)}: rows of {visible(str(key.references))} are being deleted",
        hint=f"Run again when no rows of {visible(str(key.references))} are being deleted: lastgood rollback",
    )


def keys_in(definitions: DumpSummary, schemas: Mapping[str, str]) -> Iterator[PlatformKey]:
    """The foreign keys in pg_dump's text of staging schemas that lead out of them. ``schemas``: live → staging."""
    comments = _comments(definitions)
    live = {staging: schema for schema, staging in schemas.items()}
    for item in definitions.script.items:
        if not isinstance(item, ScriptStep) or not isinstance(item.command.detail, ForeignKeyDefinition):
            continue
        key = item.command.detail
        if key.references.schema in live:
            continue
        text = item.command.statement.text
        (node,) = parse(text.decode())
        given = node.cmds[0].def_
        yield PlatformKey(
            name=given.conname,
            table=key.table,
            columns=key.columns,
            references=key.references,
            keys=tuple(part.sval for part in given.pk_attrs or ()),
            on_delete=_ACTIONS[given.fk_del_action or "a"],
            set_columns=tuple(part.sval for part in given.fk_del_set_cols or ()),
            validated=not given.skip_validation,
            command=text,
            comment=comments.get((key.table, given.conname)),
            live=Relation(live.get(key.table.schema, key.table.schema), key.table.name),
        )


def _comments(definitions: DumpSummary) -> Mapping[tuple[Relation, str], bytes]:
    """The commands that set the comments of constraints of tables."""
    found = {}
    for item in definitions.script.items:
        if isinstance(item, ScriptStep) and item.command.kind is Kind.COMMENT:
            (node,) = parse(item.command.statement.text.decode())
            if node.objtype == "OBJECT_TABCONSTRAINT":
                schema, table, name = (part.sval for part in node.object)
                found[Relation(schema, table), name] = item.command.statement.text
    return found


def at_once(connection: Connection, key: PlatformKey) -> bool:
    """Whether a foreign key that holds cannot be added NOT VALID first."""
    row = connection.execute(_STATE, [key.name, key.table.schema, key.table.name]).fetchone()
    return row is not None and row[1] and connection.info.server_version < NOT_VALID_ON_PARTITIONED


def valid(connection: Connection, key: PlatformKey) -> bool:
    """Whether a foreign key exists, and holds for all rows."""
    row = connection.execute(_STATE, [key.name, key.table.schema, key.table.name]).fetchone()
    return row is not None and bool(row[0])


def without_code(connection: Connection, keys: Sequence[PlatformKey]) -> list[PlatformKey]:
    """The keys whose rows this session can check by a query that runs no function of another role: none in the
    definitions of both tables, and none in casts of the columns: their types and the casts from them are the server's.
    """
    if not keys:
        return []
    code = not_to_query(connection)
    return [
        key
        for key in keys
        if code.isdisjoint(((key.table.schema, key.table.name), (key.references.schema, key.references.name)))
        and connection.execute(_OF_OTHERS, [key.table.schema, key.table.name, list(key.columns)]).fetchone() is None
    ]


def tied_without_code(connection: Connection, tied: Sequence[TiedKey]) -> list[TiedKey]:
    """The same for keys that a switch made again, when nothing of a restore point can be added any more."""
    if not tied:
        return []
    code = not_to_query(connection)
    found = []
    for key in tied:
        (node,) = parse(f"ALTER TABLE t ADD {key.definition}")
        columns = [part.sval for part in node.cmds[0].def_.fk_attrs]
        cast = connection.execute(_CAST, [key.schema_name, key.table, columns]).fetchone() is not None
        tables = ((key.schema_name, key.table), (key.target_schema, key.target_table))
        if code.isdisjoint(tables) and not cast:
            found.append(key)
    return found


def add(
    connection: Connection, keys: Iterable[PlatformKey], cancelled: Callable[[], bool], *, validate: bool = True
) -> list[PlatformKey]:
    """Add each foreign key by itself, and ``validate`` it. Returns those that rows violate.

    The lock on the platform's table is held for an instant: the key is added NOT VALID, and its validation does not
    block writers. On a partitioned table before 18, the lock is held until its rows are checked. Raises Failed,
    Interrupted.
    """
    violated = []
    for key in keys:
        row = connection.execute(_STATE, [key.name, key.table.schema, key.table.name]).fetchone()
        valid, partitioned = row if row is not None else (None, False)
        try:
            if valid is None:
                whole = partitioned and connection.info.server_version < NOT_VALID_ON_PARTITIONED
                later = b"" if whole or not key.validated else b"\nNOT VALID"
                comment = b"" if key.comment is None else NEXT + key.comment
                _patiently(connection, f"add {key.what}", key.command + later + comment, cancelled)
                valid = whole
            if not valid and key.validated and validate:
                _validate(connection, key, cancelled)
        except errors.ForeignKeyViolation:
            violated.append(key)
    return violated


def validate(connection: Connection, keys: Iterable[PlatformKey], cancelled: Callable[[], bool]) -> list[PlatformKey]:
    """Validate foreign keys that were added NOT VALID. Returns those that rows violate. Raises as ``add`` does."""
    violated = []
    for key in keys:
        try:
            _validate(connection, key, cancelled)
        except errors.ForeignKeyViolation:
            violated.append(key)
    return violated


def _validate(connection: Connection, key: PlatformKey, cancelled: Callable[[], bool]) -> None:
    command = _altered(connection, key.table, key.name, "VALIDATE")
    _patiently(connection, f"validate {key.what}", command, cancelled)


def drop(
    connection: Connection,
    staging: Iterable[str],
    cancelled: Callable[[], bool] = lambda: False,
    *,
    only: Iterable[PlatformKey] | None = None,
) -> None:
    """Drop the foreign keys of staging schemas to tables outside, or ``only`` these. Through them, the platform deletes
    rows of staging, and a schema with them can't be dropped. Raises Failed, Interrupted."""
    schemas = list(staging)
    wanted = None if only is None else {(key.table, key.name) for key in only}
    for schema, table, name in connection.execute(_TO_OUTSIDE, [schemas, schemas]).fetchall():
        relation = Relation(schema, table)
        if wanted is None or (relation, name) in wanted:
            command = _altered(connection, relation, name, "DROP")
            _patiently(connection, f"drop foreign key {quoted(name)} of {relation}", command, cancelled)


def _altered(connection: Connection, table: Relation, name: str, verb: LiteralString) -> bytes:
    return (
        sql.SQL("ALTER TABLE {} {} CONSTRAINT {}")
        .format(sql.Identifier(table.schema, table.name), sql.SQL(verb), sql.Identifier(name))
        .as_bytes(connection)
    )


def _patiently(connection: Connection, doing: str, command: bytes, cancelled: Callable[[], bool]) -> None:
    """Execute a command with a limit for its wait for locks, several times. Raises Failed, Interrupted."""
    for left in reversed(range(TRIES)):
        if cancelled():
            raise Interrupted(f"interrupted before lastgood could {visible(doing)}")
        try:
            with event_triggers_off(connection), connection.transaction():
                connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(LOCK_TIMEOUT)))
                connection.execute(command)
            return
        except (errors.LockNotAvailable, errors.DeadlockDetected) as error:
            if not left:
                raise Failed(
                    f"cannot {visible(doing)} after {TRIES} attempts: {message_of(error)}",
                    hint="End the long transactions that use these tables, then run the command again.",
                ) from error
            time.sleep(PAUSE_SECONDS)  # the queue behind the try passes
        except errors.ForeignKeyViolation:
            raise
        except psycopg.Error as error:
            raise Failed(
                f"cannot {visible(doing)}: {message_of(error)}", hint="Fix the cause, then run the command again."
            ) from error
