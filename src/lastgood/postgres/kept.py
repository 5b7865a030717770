"""A session in a kept database, which is closed to connections: the database is opened while the session connects, and
closed again immediately."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg

from lastgood.errors import LastgoodError
from lastgood.postgres import database
from lastgood.postgres.mark import read_mark
from lastgood.postgres.server import ClosedDatabase, Connection, Target


def read_only(target: Target, opener: Target | None = None) -> Target:
    """The same database, for read-only sessions: a closed kept database is opened for the connection, if the role may
    do so. Connecting raises ClosedDatabase if it may not. ``opener`` is used for that, if the role of ``target`` is
    another."""
    return _ReadOnly(target.keywords, target.original, opener)


def is_kept(target: Target, name: str) -> bool:
    """Whether the server has a kept database of that name. Raises Failed, psycopg.Error."""
    with database.connect_maintenance(target, name) as maintenance:
        current = database.find(maintenance, name)
    mark = read_mark(current.comment) if current is not None else None
    return mark is not None and mark.role == "kept"


@dataclass(frozen=True, slots=True)
class _ReadOnly(Target):
    opener: Target | None = field(default=None, repr=False, compare=False)

    def connect_unchanged(self, *, application_name: str = "lastgood") -> Connection:
        # Not super(): a dataclass with slots is a different class from the one that the compiler saw.
        def connect() -> Connection:
            return Target.connect_unchanged(self, application_name=application_name)

        try:
            return connect()
        except ClosedDatabase as closed:
            if closed.role != "kept":
                raise
            connection = self._entered(closed, connect)
        # A kept database must not change.
        connection.execute("SET default_transaction_read_only = on")
        return connection

    def _entered(self, closed: ClosedDatabase, connect: Callable[[], Connection]) -> Connection:
        with database.connect_maintenance(self.opener or self, closed.live) as maintenance:
            try:
                database.allow_connections(maintenance, closed.name, True)
            except (LastgoodError, psycopg.Error):
                raise closed from None
            try:
                return connect()
            finally:
                database.allow_connections(maintenance, closed.name, False)
