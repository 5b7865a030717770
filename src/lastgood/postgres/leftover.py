"""Unmarked databases: a run that was killed between creation and mark leaves one that is closed to connections.

Its connection limit shows its live database (``database.unmarked_limit``); one from an older version has only its name.
Both are guesses. So it is reported; it is dropped only at an operator's request, under the lock of the live database,
and only if it has never been used."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres import database, lock
from lastgood.postgres.database import Database
from lastgood.postgres.errors import failed
from lastgood.postgres.server import Connection, Target, only_row
from lastgood.text.quoting import identifier

# The comment during the inspection, so that the database is recognised if that is interrupted.
INSPECTED = "lastgood: a shadow that was never marked, opened only to see whether it is empty"
_NAME = re.compile(r".*(_shadow_([0-9a-f]{8}))", re.DOTALL)
_NOTHING = "Nothing was removed."

# Objects from template0 were created by initdb and have lower OIDs.
_USED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_catalog.pg_proc WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE oid >= 16384)
    OR EXISTS (SELECT FROM pg_catalog.pg_largeobject_metadata)
"""


@dataclass(frozen=True, slots=True)
class Leftover:
    """A database that looks like an unmarked shadow or copy; ``number`` are the eight hex digits at the end of its
    run's name, empty where its own name lacks them. ``bytes`` is None without the privilege to read it."""

    oid: int
    name: str
    number: str
    bytes: int | None


def leftovers(connection: Connection, live: str) -> list[Leftover]:
    """The leftovers of one live database, by name. A running run may be about to mark one: check the lock."""
    leftovers = []
    for each in database.all_databases(connection):
        number = _run_digits(each, live)
        if number is not None:
            sized = database.by_oid(connection, each.oid)  # may be dropped meanwhile
            leftovers.append(Leftover(each.oid, each.name, number, sized.size_bytes if sized is not None else None))
    return leftovers


def _run_digits(candidate: Database, live: str) -> str | None:
    """The end of the name of the run that left ``candidate``, empty if unknown; None if it is no leftover."""
    match = _NAME.fullmatch(candidate.name)
    has_name = match is not None and candidate.name == database.fit_name(live, match[1])
    has_limit = candidate.connection_limit == database.unmarked_limit(live)
    if not (has_name or has_limit) or candidate.is_template:
        return None
    closed = not candidate.allow_connections and candidate.comment is None
    number = match[2] if match is not None else ""
    return number if closed or candidate.comment == INSPECTED else None


def drop_leftover(connection: Connection, target: Target, leftover: Leftover, live: str) -> None:
    """Drop the leftover if it is unchanged and has never been used. The caller holds the lock of ``live``.

    It is opened for a moment for the inspection, only to its owner and superusers; one that was used is closed again
    and remains. Raises Refused, Failed.
    """
    current = database.by_oid(connection, leftover.oid)
    if current is None:
        return
    if current.name != leftover.name or _run_digits(current, live) is None:
        raise Refused(
            f'cannot remove "{leftover.name}": it changed since it was found',
            hint="Run lastgood status to see the present databases.",
            state=_NOTHING,
        )
    lock.take_over_copy(connection, current.name)
    if current.invalid:
        database.drop(connection, current.name, current.oid)  # it accepts no connections, and can only be dropped
        return
    doing = f'inspect the database "{current.name}"'
    public = _open_to_public(connection, current.oid)
    name = sql.Identifier(current.name)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
            connection.execute(database.comment_statement(current.name, INSPECTED))
            connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name))
            connection.execute(database.allow_connections_statement(current.name, True))
        with target.at(current.name).connect(application_name="lastgood inspects") as inside:
            (used,) = only_row(inside, _USED)
    except psycopg.Error as error:
        _close(connection, current, public)
        raise failed(error, doing, state=_NOTHING) from error
    if used:
        _close(connection, current, public)
        raise Refused(
            f'cannot remove "{current.name}": it is not empty, so it is no leftover of a run',
            hint=f"To inspect it, run: ALTER DATABASE {identifier(current.name)} ALLOW_CONNECTIONS true",
            state=_NOTHING,
        )
    database.drop(connection, current.name, current.oid)


def _open_to_public(connection: Connection, oid: int) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) a"
        " WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT') FROM pg_catalog.pg_database WHERE oid = %s",
        [oid],
    ).fetchone()
    return row is not None and bool(row[0])


def _close(connection: Connection, database_before: Database, public: bool) -> None:
    """Restore the previous state. If that fails, the comment still identifies the database."""
    name = database_before.name
    limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
    with suppress(psycopg.Error), connection.transaction():
        connection.execute(limit.format(sql.Identifier(name), sql.Literal(database_before.connection_limit)))
        connection.execute(database.allow_connections_statement(name, False))
        connection.execute(database.comment_statement(name, None))
        if public:
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(sql.Identifier(name)))
