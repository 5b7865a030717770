"""The runs that left a list in a database, and the lock of a session that works on one. Its tasks: see ``remainder``.

`lastgood status` asks this of every database: nothing here loads the parser of SQL, which reading a list needs.
"""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from lastgood.postgres.server import Connection

PREFIX = "lastgood_"
TABLE = "unfinished"
_RUN = "[0-9]{8}-[0-9]{6}-[0-9a-f]{8}"  # nothing else comes near a terminal, or the name of a journal
_KEY: LiteralString = "pg_catalog.hashtextextended({}, 0)"


def schema_of(run: str) -> str:
    """The schema that holds the list of a run."""
    return PREFIX + run


def runs(connection: Connection) -> list[str]:
    """The runs that left a list in the connection's database, the oldest first."""
    return [
        str(name).removeprefix(PREFIX)
        for (name,) in connection.execute(
            "SELECT n.nspname FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid"
            " WHERE n.nspname ~ %s AND c.relname = %s AND c.relkind = 'r' ORDER BY 1",
            [f"^{PREFIX}{_RUN}$", TABLE],
        )
    ]


def lock_key(run: str) -> sql.Composed:
    """The key of the advisory lock, in the database itself, of the session that finishes ``run``."""
    return sql.SQL(_KEY).format(sql.Literal(f"lastgood finish {run}"))
