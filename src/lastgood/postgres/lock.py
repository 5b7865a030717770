"""One run at a time per live database, enforced by the server."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres.server import Connection

T = TypeVar("T")
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """The lock of a live database, held already on ``connection``, by the run ``by``: to be handed over to another run
    of the same process, without a moment in which anybody else could take it."""

    connection: Connection
    by: str


def lock_key(live: str) -> int:
    """The advisory lock's key: the first 8 bytes, as a signed big-endian number, of the SHA-256 of
    ``lastgood live database`` + a zero byte + the live database's name in UTF-8.

    By name, not by OID: the name is what a swap fights for, and it outlives the swap. The derivation never changes.
    """
    digest = hashlib.sha256(b"lastgood live database\0" + live.encode()).digest()
    key: int = struct.unpack(">q", digest[:8])[0]
    return key


def lock_live(connection: Connection, live: str, look: Callable[[Connection], T]) -> T:
    """Take the lock of the live database on a connection to its maintenance database (``maintenance_name``), and return
    what ``look`` finds under it.

    There is no way to take the lock without looking again: what was read before may be over, since another session may
    have had the lock meanwhile. Advisory locks are per database, hence the one agreed database. The lock lasts until
    the connection closes; a killed tool gives it back. Taking it twice on one connection is harmless. Raises Refused,
    naming who holds it, and what ``look`` raises.
    """
    key = lock_key(live)
    for _ in range(_TRIES):
        row = connection.execute(sql.SQL("SELECT pg_try_advisory_lock({})").format(sql.Literal(key))).fetchone()
        if row is not None and row[0]:
            return look(connection)
        who = key_holder(connection, key)
        if who is not None:
            raise Refused(
                f'cannot work on the database "{live}": another run works on it ({who})',
                hint="Wait for it, or run lastgood status to see how far it is.",
            )
    raise Refused(
        f'cannot work on the database "{live}": another run works on it',
        hint="Wait for it, or run lastgood status to see how far it is.",
    )


def nothing(_: Connection) -> None:
    """For ``lock_live``, where nothing was read before the lock."""


def unlock(connection: Connection) -> None:
    """Gives back what ``lock_live`` took on this connection: from here on others may work on the live database."""
    connection.execute("SELECT pg_advisory_unlock_all()")


def holder(connection: Connection, live: str) -> str | None:
    """Who works on the live database now, in words; None when nobody does."""
    return key_holder(connection, lock_key(live))


def key_holder(connection: Connection, key: int) -> str | None:
    """Who has the lock, in words; None when it was let go in the meantime. What we may not see is left out."""
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
    said = [f'"{application}"' if application else "", f'as "{user}"' if user else ""]
    if since:
        # pg_stat_activity tells the address and the start only of those whose activity we may see.
        said += [f"from {address}" if address else "through a local socket", f"since {since}"]
    return ", ".join([part for part in said if part] + [f"server process {pid}"])
