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


# A list is read by a query, and its work is done, with the rights of this role: it must belong to a role that can act
# for this one, and reading it must run no code. It may have come with a restore point.
_RUNS = """
SELECT n.nspname::text FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
WHERE n.nspname ~ %s AND c.relname = %s AND c.relkind = 'r'
  AND pg_catalog.pg_has_role(n.nspowner, current_user, 'MEMBER')
  AND pg_catalog.pg_has_role(c.relowner, current_user, 'MEMBER')
  AND NOT (c.relhassubclass OR c.relispartition OR c.relrowsecurity)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid >= 16384)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
                  AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s WHERE s.stxrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c')
ORDER BY 1
"""


def runs(connection: Connection) -> list[str]:
    """The runs that left a list in the connection's database, the oldest first."""
    found = connection.execute(_RUNS, [f"^{PREFIX}{_RUN}$", TABLE])
    return [name.removeprefix(PREFIX) for (name,) in found]


def lock_key(run: str) -> sql.Composed:
    """The key of the advisory lock, in the database itself, of the session that finishes ``run``."""
    return sql.SQL(_KEY).format(sql.Literal(f"lastgood finish {run}"))
