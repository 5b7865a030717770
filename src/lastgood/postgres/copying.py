"""The lock of a copy: the new database of a restore, a salvage or a trial.

A copy blocks no other run, so the lock of the live database is not taken for it. The process that creates a copy holds
a shared lock of its name: an incomplete copy without a holder was left by a killed process.
"""

from __future__ import annotations

from lastgood.errors import Refused
from lastgood.postgres import lock
from lastgood.postgres.server import Connection


def _key(name: str) -> int:
    return lock.lock_key(f"\0copy {name}")


def claim(connection: Connection, name: str) -> None:
    """Hold the lock of the database ``name``, which is being created, until the connection closes. ``connection`` is to
    the maintenance database of the live database that is its model. Raises Refused while another session removes a
    database of that name."""
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock_shared(%s)", [_key(name)]).fetchone()
    if row is None or not row[0]:
        raise Refused(
            f'cannot create the database "{name}": another session is removing a database of that name',
            hint="Run the same command again in a moment.",
        )


def take_over(connection: Connection, name: str) -> None:
    """Take the lock of the database ``name`` before it is removed. Raises Refused, naming the session that creates
    it."""
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", [_key(name)]).fetchone()
    if row is None or not row[0]:
        creator = holder(connection, name)
        raise Refused(
            f'cannot remove the database "{name}": it is being created' + (f" ({creator})" if creator else ""),
            hint="Wait for it, or interrupt it on its host: it removes the database itself.",
            state="Nothing was removed.",
        )


def holder(connection: Connection, name: str) -> str | None:
    """The session that creates the database ``name``, in words; None without one."""
    return lock.key_holder(connection, _key(name))
