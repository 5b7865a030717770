"""Locks that the server enforces: one run at a time per live database, and one owner of a new copy.

A copy is the new database of a restore or a trial. It blocks no other run, so the lock of the live database is not
taken for it. The process that creates a copy holds a shared lock of its name: an incomplete copy without a holder was
left by a killed process."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres import pooled
from lastgood.postgres.server import Connection

T = TypeVar("T")
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """The lock of a live database, held on ``connection`` by the run ``by``, for another run of the same process: so no
    other session can take it in between."""

    connection: Connection
    by: str


def lock_key(live: str) -> int:
    """The advisory lock's key: the first 8 bytes, as a signed big-endian number, of the SHA-256 of
    ``lastgood live database`` + a zero byte + the live database's name in UTF-8.

    By name, not by OID: swaps contend for the name, which outlives them. The derivation never changes.
    """
    digest = hashlib.sha256(b"lastgood live database\0" + live.encode()).digest()
    key: int = struct.unpack(">q", digest[:8])[0]
    return key


def lock_live(connection: Connection, live: str, read: Callable[[Connection], T]) -> T:
    """Take the lock of the live database on a connection to its maintenance database (``maintenance_name``), and return
    the result of ``read`` under it.

    The lock cannot be taken without reading again: earlier results may be outdated, since another session may have held
    the lock meanwhile. Advisory locks are per database, hence the one agreed database. The lock lasts until the
    connection closes; the death of the process releases it. Taking it twice on one connection is harmless. Raises
    Refused, naming the holder, or behind a transaction pooler, and the errors of ``read``.
    """
    pooled.refuse(connection, f'lock the database "{live}"')  # its lock would stay with a session of another client
    key = lock_key(live)
    for _ in range(_TRIES):
        row = connection.execute(sql.SQL("SELECT pg_try_advisory_lock({})").format(sql.Literal(key))).fetchone()
        if row is not None and row[0]:
            return read(connection)
        holding_session = _key_holder(connection, key)
        if holding_session is not None:
            raise Refused(
                f'cannot work on the database "{live}": another run holds its lock ({holding_session})',
                hint="Wait for that run, or run lastgood status to see its progress.",
            )
    raise Refused(
        f'cannot work on the database "{live}": another run holds its lock',
        hint="Wait for that run, or run lastgood status to see its progress.",
    )


def read_nothing(_: Connection) -> None:
    """A ``read`` for ``lock_live`` where nothing was read before the lock."""


def unlock(connection: Connection) -> None:
    """Release the lock of ``lock_live`` on this connection: from here on another run may take it."""
    connection.execute("SELECT pg_advisory_unlock_all()")


def holder(connection: Connection, live: str) -> str | None:
    """The session that holds the lock of the live database, in words; None without one."""
    return _key_holder(connection, lock_key(live))


def _key_holder(connection: Connection, key: int) -> str | None:
    """The session that holds a lock, in words, as far as this role may see it; None when it was released meanwhile."""
    unsigned = key & 0xFFFFFFFFFFFFFFFF
    row = connection.execute(
        sql.SQL("""
        SELECT l.pid, a.usename, a.application_name, host(a.client_addr),
               to_char(a.backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"')
        FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
          AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND l.classid = {high} AND l.objid = {low}""").format(
            high=sql.Literal(unsigned >> 32), low=sql.Literal(unsigned & 0xFFFFFFFF)
        )
    ).fetchone()
    if row is None:
        return None
    pid, user, application, address, since = row
    parts = [f'"{application}"' if application else "", f'as "{user}"' if user else ""]
    if since:
        # pg_stat_activity shows the address and the start only to roles that may see the session's activity.
        parts += [f"from {address}" if address else "through a local socket", f"since {since}"]
    return ", ".join([part for part in parts if part] + [f"server process {pid}"])


def claim_copy(connection: Connection, name: str) -> None:
    """Hold the lock of the copy ``name``, which is being created, until the connection closes. ``connection`` is to
    the maintenance database of the live database that is its model. Raises Refused while another session removes a
    database of that name."""
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock_shared(%s)", [_copy_key(name)]).fetchone()
    if row is None or not row[0]:
        raise Refused(
            f'cannot create the database "{name}": another session is removing a database of that name',
            hint="Run the same command again in a moment.",
        )


def take_over_copy(connection: Connection, name: str) -> None:
    """Take the lock of the copy ``name`` before it is removed. Raises Refused, naming the session that creates it."""
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [_copy_key(name)]).fetchone()
    if row is None or not row[0]:
        creator = copy_holder(connection, name)
        raise Refused(
            f'cannot remove the database "{name}": it is being created' + (f" ({creator})" if creator else ""),
            hint="Wait for it, or interrupt it on its host: it removes the database itself.",
            state="Nothing was removed.",
        )


def copy_holder(connection: Connection, name: str) -> str | None:
    """The session that creates the copy ``name``, in words; None without one."""
    return _key_holder(connection, _copy_key(name))


def _copy_key(name: str) -> int:
    return lock_key(f"\0copy {name}")
