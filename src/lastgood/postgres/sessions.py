"""The sessions in a database, and their termination.

All by the database's OID, from a connection to another database: names change during a swap. Columns that a server
hides from roles that are neither superusers nor in pg_read_all_stats (address, start, state, backend type) are None
here; no decision depends on them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime

from psycopg import sql

from lastgood.postgres.server import Connection
from lastgood.text.quoting import literal
from lastgood.text.units import listed

END_HINT = "Connect as a superuser, or as a member of pg_signal_backend and of their roles; or terminate them first."


@dataclass(frozen=True, slots=True)
class ServerSession:
    """One server process in a database. ``user`` is None for processes that belong to no role (autovacuum).

    ``client`` is an address; None for a local socket, for background workers, and where it is hidden. ``since`` is
    the session's start.
    """

    pid: int
    user: str | None
    is_superuser: bool
    application_name: str
    client: str | None
    backend_type: str | None
    state: str | None
    since: datetime | None

    def __str__(self) -> str:
        role = f'"{self.user}"' if self.user is not None else "no role"
        kind = "superuser " if self.is_superuser else ""
        program = self.application_name or self.backend_type or ""
        return f"process {self.pid} of {kind}{role}" + (f' ("{program}")' if program else "")


def sessions(connection: Connection, oid: int) -> list[ServerSession]:
    """All other sessions in the database, by process number."""
    return _read(connection, oid, sql.SQL("true"))


def not_terminable(connection: Connection, oid: int) -> list[ServerSession]:
    """The sessions that this role may not terminate: those of superusers, and of roles whose privileges it lacks.

    A superuser may terminate all. Other roles: those of roles whose privileges they have (members, WITH INHERIT since
    16), and as a member of pg_signal_backend all except superusers'. Autovacuum is left out: a rename or a drop ends
    it."""
    # A process without a role counts as a superuser's: pg_signal_backend() in the server.
    may_terminate = sql.SQL("""
        (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
        OR (a.usesysid IS NOT NULL AND NOT coalesce(r.rolsuper, true)
            AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))""")
    candidates = _read(connection, oid, sql.SQL("NOT ({})").format(may_terminate))
    return [session for session in candidates if not _autovacuum(session)]


def blocking_sessions(connection: Connection, oid: int, name: str) -> str:
    """The sessions that would block a rename, since this role may not terminate them, in words; or an empty text."""
    stubborn = not_terminable(connection, oid)
    if not stubborn:
        return ""
    names = listed((f"{session.user or session.backend_type} (pid {session.pid})" for session in stubborn), 5)
    return f'sessions in "{name}" that this role may not terminate would block the switch: {names}'


def _autovacuum(session: ServerSession) -> bool:
    # Its type is hidden from ordinary roles, but no other process in a database has neither a role nor a visible type.
    return session.user is None and session.backend_type in (None, "autovacuum worker")


@dataclass(frozen=True, slots=True)
class LockedTable:
    """A table that no other session can read at this moment, and the process that holds or awaits the lock; or, without
    ``pid``, the ``prepared`` transaction that holds it, which has no process; None if it may be one of several."""

    schema: str
    name: str
    pid: int | None
    user: str | None
    application_name: str
    prepared: str | None

    @property
    def holder(self) -> str:
        """The holder in words."""
        if self.pid is not None:
            return f"process {self.pid}"
        return f'the prepared transaction "{self.prepared}"' if self.prepared is not None else "a prepared transaction"

    @property
    def end_command(self) -> str:
        """The command that ends the holder."""
        if self.pid is not None:
            return f"SELECT pg_terminate_backend({self.pid})"
        if self.prepared is None:
            return "SELECT * FROM pg_prepared_xacts, and ROLLBACK PREPARED"
        return f"ROLLBACK PREPARED {literal(self.prepared)}"


def locked_tables(connection: Connection) -> list[LockedTable]:
    """The tables of the connection's database that another session has locked against readers, or waits to lock (later
    readers queue behind it): for example a migration that was left open. Sorted by name."""
    rows = connection.execute("""
        SELECT DISTINCT ON (n.nspname, c.relname)
               n.nspname, c.relname, l.pid, coalesce(a.usename, p.owner), coalesce(a.application_name, ''), p.gid
        FROM pg_catalog.pg_locks l
        JOIN pg_catalog.pg_class c ON c.oid = l.relation
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
        LEFT JOIN LATERAL (
          -- They have no process, and two may have the same virtual number: then the holder is unknown.
          SELECT min(x.gid) AS gid, min(x.owner) AS owner
          FROM pg_catalog.pg_locks k JOIN pg_catalog.pg_prepared_xacts x ON x.transaction = k.transactionid
          WHERE l.pid IS NULL AND k.pid IS NULL AND k.locktype = 'transactionid'
            AND k.virtualtransaction = l.virtualtransaction AND x.database = current_database()
          HAVING count(*) = 1) p ON true
        WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
          AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
          AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
          AND c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_'
        ORDER BY n.nspname, c.relname, l.granted DESC""").fetchall()
    return [LockedTable(*row) for row in rows]


def _read(connection: Connection, oid: int, condition: sql.Composable) -> list[ServerSession]:
    query = sql.SQL("""
        SELECT a.pid, a.usename, coalesce(r.rolsuper, false), coalesce(a.application_name, ''), host(a.client_addr),
               a.backend_type, a.state, a.backend_start
        FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
        WHERE a.datid = {oid} AND a.pid <> pg_backend_pid() AND ({condition}) ORDER BY a.pid""").format(
        oid=sql.Literal(oid), condition=condition
    )
    names = [field.name for field in fields(ServerSession)]
    return [ServerSession(**dict(zip(names, row, strict=True))) for row in connection.execute(query)]
