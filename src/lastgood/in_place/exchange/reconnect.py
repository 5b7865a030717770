"""Sessions from before a switch in place, which nothing has ended.

Their prepared statements fail at each execution if the columns of the result changed, until the client prepares them
again or reconnects; their temporary views still read the kept tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import psycopg

from lastgood.in_place.exchange.snapshots import OpenSession, session
from lastgood.postgres.server import Connection

_BEFORE = """
SELECT a.pid, a.usename, a.application_name, a.xact_start, a.state
FROM pg_stat_activity a JOIN pg_roles r ON r.rolname = a.usename
WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid()
  AND a.backend_start < %s
  AND (NOT r.rolsuper OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
ORDER BY a.backend_start
"""


def sessions(connection: Connection, since: datetime) -> list[OpenSession]:
    """The clients of this database that connected before ``since``, the time of the kept schemas' mark; without those
    of superusers, unless this role is one. Needs pg_monitor for other roles' sessions."""
    return [session(*row) for row in connection.execute(_BEFORE, [since])]


def terminate(connection: Connection, found: Iterable[OpenSession]) -> int:
    """Terminate the sessions, and return how many were. Those that this role may not terminate remain."""
    ended = 0
    for each in found:
        try:
            row = connection.execute("SELECT pg_terminate_backend(%s, 5000)", [each.pid]).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            continue
        ended += bool(row is not None and row[0])
    return ended
