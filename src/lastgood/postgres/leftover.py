"""Databases that a run made and could not mark any more: killed in between, it left one that is closed to connections.

Its connection limit shows whose it is (``database.unmarked_limit``); one of an older version has only its name. Both
are guesses. So it is shown; it is dropped only when an operator asks for it, under the lock of the live database, and
after a look inside showed that it has never been used.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lastgood.errors import Refused
from lastgood.journal.run_names import identifier
from lastgood.postgres import copying, database
from lastgood.postgres.database import Database
from lastgood.postgres.errors import failed
from lastgood.postgres.server import Connection, Target

# The comment while one is looked into, so that it is known again if that is cut short.
LOOKED_INTO = "lastgood: a shadow that was never marked, opened only to see whether it is empty"
_NAME = re.compile(r".*(_shadow_([0-9a-f]{8}))", re.DOTALL)
_NOTHING = "Nothing was removed."

# What a database made from template0 has was made by initdb, and has a lower number.
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
    """A database that looks like an unmarked shadow or copy; ``number`` are the eight hex digits at the end of the name
    of its run, empty where its own name does not have them. ``bytes`` is None where we may not know it.
    """

    oid: int
    name: str
    number: str
    bytes: int | None


def leftovers(connection: Connection, live: str) -> list[Leftover]:
    """Those of one live database, by name. A run that is at work may be about to mark one: ask the lock."""
    found = []
    for each in database.every(connection):
        number = _number(each, live)
        if number is not None:
            sized = database.by_oid(connection, each.oid)  # may have gone meanwhile
            found.append(Leftover(each.oid, each.name, number, sized.size_bytes if sized is not None else None))
    return found


def _number(found: Database, live: str) -> str | None:
    """The end of the name of the run that left ``found``, empty where that is not known; None when no run did."""
    match = _NAME.fullmatch(found.name)
    named = match is not None and found.name == database.fit_name(live, match[1])
    made_for = found.connection_limit == database.unmarked_limit(live)
    if not (named or made_for) or found.is_template:
        return None
    closed = not found.allow_connections and found.comment is None
    number = match[2] if match is not None else ""
    return number if closed or found.comment == LOOKED_INTO else None


def drop_leftover(connection: Connection, target: Target, leftover: Leftover, live: str) -> None:
    """Drops it, if it is still what it looked like and has never been used. The caller holds the lock of ``live``.

    It is opened for a moment to look inside, to nobody but its owner and superusers; one that was used after all is
    closed again and stays. Raises Refused, Failed.
    """
    found = database.by_oid(connection, leftover.oid)
    if found is None:
        return
    if found.name != leftover.name or _number(found, live) is None:
        raise Refused(
            f'cannot remove "{leftover.name}": it changed since it was found',
            hint="Look at lastgood status.",
            state=_NOTHING,
        )
    copying.take_over(connection, found.name)
    if found.invalid:
        database.drop(connection, found.name, found.oid)  # it accepts no connections, and can only be dropped
        return
    doing = f'look into the database "{found.name}"'
    everybody = _open_to_everybody(connection, found.oid)
    name = sql.Identifier(found.name)
    try:
        with connection.transaction():
            connection.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(name))
            connection.execute(database.comment_statement(found.name, LOOKED_INTO))
            connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT -1").format(name))
            connection.execute(database.allow_connections_statement(found.name, True))
        with target.at(found.name).connect(application_name="lastgood inspects") as inside:
            (used,) = inside.execute(_USED).fetchone() or (True,)
    except psycopg.Error as error:
        _close(connection, found, everybody)
        raise failed(error, doing, state=_NOTHING) from error
    if used:
        _close(connection, found, everybody)
        raise Refused(
            f'cannot remove "{found.name}": it is not empty, so no run left it like this',
            hint=f"To look into it: ALTER DATABASE {identifier(found.name)} ALLOW_CONNECTIONS true",
            state=_NOTHING,
        )
    database.drop(connection, found.name, found.oid)


def _open_to_everybody(connection: Connection, oid: int) -> bool:
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(datacl, pg_catalog.acldefault('d', datdba))) a"
        " WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT') FROM pg_catalog.pg_database WHERE oid = %s",
        [oid],
    ).fetchone()
    return row is not None and bool(row[0])


def _close(connection: Connection, found: Database, everybody: bool) -> None:
    """As it was found. What can't be undone leaves the comment that tells what it is."""
    name = found.name
    limit = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
    with suppress(psycopg.Error), connection.transaction():
        connection.execute(limit.format(sql.Identifier(name), sql.Literal(found.connection_limit)))
        connection.execute(database.allow_connections_statement(name, False))
        connection.execute(database.comment_statement(name, None))
        if everybody:
            connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO PUBLIC").format(sql.Identifier(name)))
