"""The activity of a database: the server's counters, and its sessions. By OID, from another database."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from lastgood.models import Frozen
from lastgood.postgres.server import Connection

# Without our own sessions; with those whose backend type is hidden from this role, if they belong to a role.
_SAMPLE = """
SELECT extract(epoch FROM clock_timestamp())::float8, d.xact_commit, d.xact_rollback, d.deadlocks, d.conflicts,
       d.sessions_abandoned + d.sessions_fatal + d.sessions_killed,
       (SELECT count(*) FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.datid AND a.usesysid IS NOT NULL
        AND coalesce(a.backend_type, 'client backend') = 'client backend' AND a.application_name !~ '^lastgood'),
       (SELECT count(DISTINCT l.pid) FROM pg_catalog.pg_locks l WHERE l.database = d.datid AND NOT l.granted)
FROM pg_catalog.pg_stat_database d WHERE d.datid = %s
"""
_STATEMENTS = "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace"
_WRITERS = """
SELECT a.pid, a.usename, coalesce(a.application_name, ''), host(a.client_addr), a.state, a.backend_xid IS NOT NULL
FROM pg_catalog.pg_stat_activity a
WHERE a.datid = %s AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, 'client backend') = 'client backend'
  AND a.application_name !~ '^lastgood' AND a.pid <> pg_catalog.pg_backend_pid()
ORDER BY a.backend_xid IS NULL, a.pid
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters of a database at a moment (``at``: seconds, by the server's clock). ``ended``: sessions that ended
    abnormally; ``calls`` and ``milliseconds`` from pg_stat_statements, None where it cannot be read."""

    at: float
    commits: int
    rollbacks: int
    deadlocks: int
    conflicts: int
    ended: int
    connections: int
    lock_waits: int
    calls: int | None = None
    milliseconds: float | None = None


class ConnectedSession(Frozen):
    """A foreign session in the live database. ``writing``: its transaction has written."""

    pid: int
    user: str
    application_name: str
    client: str | None
    state: str | None
    writing: bool


def sample(connection: Connection, oid: int, inside: Connection | None = None) -> Sample | None:
    """Sample the counters of a database; None when it does not exist. ``inside`` is a connection to it, through which
    pg_stat_statements is read where possible. Both connections need autocommit. Raises psycopg.Error."""
    row = connection.execute(_SAMPLE, [oid]).fetchone()
    if row is None:
        return None
    statements: tuple[int | None, float | None] = _statements(inside, oid) if inside is not None else (None, None)
    return Sample(*(*row, *statements))


def _statements(inside: Connection, oid: int) -> tuple[int | None, float | None]:
    try:
        schema = inside.execute(_STATEMENTS + " WHERE e.extname = 'pg_stat_statements'").fetchone()
        if schema is None:
            return None, None
        query = sql.SQL(
            "SELECT coalesce(sum(calls), 0)::int8, coalesce(sum(total_exec_time), 0)::float8 FROM {}(false)"
            " WHERE dbid = {}"
        )
        row = inside.execute(query.format(sql.Identifier(schema[0], "pg_stat_statements"), sql.Literal(oid))).fetchone()
        return (int(row[0]), float(row[1])) if row is not None else (None, None)
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InsufficientPrivilege):
        return None, None  # not in shared_preload_libraries, or no privilege
    except psycopg.errors.UndefinedFunction:
        return None, None  # an old version of the extension


def connected(connection: Connection, oid: int) -> list[ConnectedSession]:
    """The sessions of applications in a database, writers first. Raises psycopg.Error."""
    names = ConnectedSession.model_fields
    return [ConnectedSession(**dict(zip(names, row, strict=True))) for row in connection.execute(_WRITERS, [oid])]


def writes(connection: Connection, oid: int) -> int:
    """Rows inserted, updated and deleted in a database since its statistics began, by the server's own counters."""
    row = connection.execute(
        "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_catalog.pg_stat_database WHERE datid = %s", [oid]
    ).fetchone()
    return int(row[0]) if row is not None else 0
