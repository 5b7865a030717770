"""The share of the server that a load may use: connections, memory, parallel workers, and its sessions' settings.

Production comes first: connections remain free for others, and memory is divided so that the machine does not run out
of it even if all workers use their share at once."""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.postgres.pressure.machine import Machine, machine
from lastgood.postgres.server import Connection, only_row, set_where_possible
from lastgood.text import units

# Connections that remain free for the application and for administrators.
RESERVED_CONNECTIONS = 5
# Sessions of a rollback in addition to its workers: the fence and its guard, the emergency backup, the session that
# creates the shadow, a reader in the live database, the monitor of the server, the helper of the swap.
OTHER_SESSIONS = 7
MOST_WORKERS = 8  # where the number of the server's processors is unknown
FEW_WORKERS = 4  # where its settings give no hint either
MEMORY_SHARE = 4  # a quarter of the machine's memory
# More does not speed up the sort of an index build: larger inputs are merged in one pass anyway.
MOST_MEMORY = 512 << 20

# Settings of every session of a load, in addition to those of all our sessions. Limits of the role, the database or
# the server would abort a long COPY or index build. Asynchronous commits lose nothing: the commit of the swap comes
# later in the same WAL and flushes them.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("synchronous_commit", "off"),
    ("client_connection_check_interval", "2s"),
    ("default_transaction_read_only", "off"),
    ("row_security", "off"),
    ("jit", "off"),
    # Raised for a single statement, see ``Capacity.parallel_workers``.
    ("max_parallel_maintenance_workers", "0"),
)


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """A limit of connections, ``used`` of them taken; ``what`` as in "the server allows …"."""

    what: str
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The limits and settings of the server. Sizes in bytes.

    ``processes``: the number of parallel workers it may run at once; ``tuned``: whether this is not the default.
    ``ram_hint``: the memory estimated from the setting ``hint_of`` (see ``_HINTS``).
    """

    limits: tuple[ConnectionLimit, ...]
    processes: int
    tuned: bool
    maintenance_work_mem: int
    ram_hint: int | None = None
    hint_of: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """``jobs``: the worker connections to open; ``cpus``: processors, known or estimated. ``maintenance_work_mem`` in
    bytes, for each worker. ``settings`` are those of each worker's session. ``reasons`` explain the choice in words.

    ``free``: connections that the tightest limit leaves for workers; below 1 even the run's own sessions may fail.
    """

    jobs: int
    cpus: int
    maintenance_work_mem: int
    most_parallel_workers: int
    free: int
    settings: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]

    def parallel_workers(self, running: int) -> int:
        """The ``max_parallel_maintenance_workers`` of a job that builds an index while ``running`` jobs run, this one
        included: none where each processor has a job, all of them for a single job."""
        return max(0, min(self.most_parallel_workers, self.cpus // max(1, running) - 1))

    def apply(self, connection: Connection) -> None:
        """Apply the settings to a worker's connection, except those that the server does not know or allow."""
        set_where_possible(connection, self.settings)


def capacity(
    connection: Connection,
    *,
    jobs: int | None,
    into: str | None = None,
    others: int = OTHER_SESSIONS,
) -> Capacity:
    """The capacity for a load at this moment. ``jobs``: the number that the user requested, None to choose one.

    ``into``: the database of the workers, when it exists already: it may have a limit of its own (a shadow has none).
    ``others``: the number of sessions that the run has yet to open in addition to its workers.
    """
    return divide(figures(connection, into), machine(connection), jobs=jobs, others=others)


def divide(server: Figures, host: Machine, *, jobs: int | None, others: int) -> Capacity:
    """The capacity by the rules, from given figures."""
    cpus, reason = _processors(server, host)
    wanted = jobs or cpus
    free = min((each.limit - each.used - others - RESERVED_CONNECTIONS for each in server.limits), default=wanted)
    granted = max(1, min(wanted, free))
    reasons = [f"{_workers(wanted)}: as requested" if jobs else f"{_workers(wanted)}: {reason}"]
    if granted < wanted:
        tight = min(server.limits, key=lambda each: each.limit - each.used)
        reasons = [
            f"{_workers(granted)} instead of {wanted}: {tight.what} {tight.limit} connections, {tight.used} are in "
            f"use; the run needs {others} more for itself, and {RESERVED_CONNECTIONS} remain free"
        ]
    most_parallel = max(0, min(server.processes, cpus - 1))
    memory, reason = _memory(server, host, max(granted, 1 + most_parallel))
    reasons.append(f"maintenance_work_mem {units.size(memory)}: {reason}")
    return Capacity(
        jobs=granted,
        cpus=cpus,
        maintenance_work_mem=memory,
        most_parallel_workers=most_parallel,
        free=free,
        settings=(*SETTINGS, ("maintenance_work_mem", f"{memory >> 10}kB")),
        reasons=tuple(reasons),
    )


def _workers(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _processors(server: Figures, host: Machine) -> tuple[int, str]:
    if host.cpus is not None:
        return host.cpus, f"the machine has {units.counted(host.cpus, 'processor')}"
    if server.tuned:
        count = max(1, min(server.processes, MOST_WORKERS))
        return (
            count,
            f"the server may run {server.processes} parallel workers; its processors are not visible from here",
        )
    return FEW_WORKERS, "the server's processors are not visible from here"


def _memory(server: Figures, host: Machine, processes: int) -> tuple[int, str]:
    """At most a quarter of the memory, if all processes use their share at once. The parallel workers of one index
    build share one maintenance_work_mem; counting each of them is the cautious choice."""
    own = server.maintenance_work_mem
    ram = host.ram or server.ram_hint
    if ram is None:
        return own, "the server's own setting, since its memory is not visible from here"
    share = max(1 << 20, ram // MEMORY_SHARE // processes)
    source = f"{units.size(ram)} of memory" + ("" if host.ram else f", estimated from {server.hint_of}")
    count = "1 process" if processes == 1 else f"{processes} processes"
    if own > share:
        return share, f"less than the server's own {units.size(own)}, a quarter of {source} for {count}"
    if own >= min(share, MOST_MEMORY):
        return own, "the server's own setting"
    return min(share, MOST_MEMORY), f"at most a quarter of {source} for {count}"


# Roles without pg_read_all_stats cannot see the type of a backend; a client backend has a role and a database.
_LIMITS = """
WITH clients AS (
  SELECT usename, datname FROM pg_catalog.pg_stat_activity
  WHERE backend_type = 'client backend' OR (backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL)
)
SELECT pg_catalog.current_setting('max_connections')::int4
       - pg_catalog.current_setting('superuser_reserved_connections')::int4
       - coalesce(pg_catalog.current_setting('reserved_connections', true)::int4, 0),
       r.rolsuper, session_user, r.rolconnlimit,
       (SELECT datconnlimit FROM pg_catalog.pg_database WHERE datname = %(name)s),
       (SELECT count(*) FROM clients), (SELECT count(*) FROM clients WHERE usename = session_user),
       (SELECT count(*) FROM clients WHERE datname = %(name)s)
FROM pg_catalog.pg_roles r WHERE r.rolname = session_user
"""
_SERVER = """
SELECT least(pg_catalog.current_setting('max_worker_processes')::int4,
             pg_catalog.current_setting('max_parallel_workers')::int4),
       EXISTS (SELECT FROM pg_catalog.pg_settings
               WHERE name IN ('max_worker_processes', 'max_parallel_workers') AND setting <> boot_val),
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('maintenance_work_mem'))
"""
# Administrators set the first to half or three quarters of the memory, the second to a quarter; a default value gives
# no hint.
_HINTS = """
SELECT name, pg_catalog.pg_size_bytes(pg_catalog.current_setting(name)) FROM pg_catalog.pg_settings
WHERE name IN ('effective_cache_size', 'shared_buffers') AND setting <> boot_val ORDER BY name
"""


def limits(connection: Connection, database: str | None = None) -> tuple[ConnectionLimit, ...]:
    """The limits on the number of our sessions: the server's, and for roles other than superusers the role's own and
    that of ``database``. Connections reserved for superusers are not included."""
    most, is_superuser, role, role_limit, database_limit, used, used_by_role, used_in_database = only_row(
        connection, _LIMITS, {"name": database or ""}
    )
    all_limits = [ConnectionLimit("the server allows", most, used)]
    if not is_superuser:
        if role_limit >= 0:
            all_limits.append(ConnectionLimit(f'role "{role}" is allowed', role_limit, used_by_role))
        if database_limit is not None and database_limit >= 0:
            all_limits.append(ConnectionLimit(f'database "{database}" allows', database_limit, used_in_database))
    return tuple(all_limits)


def figures(connection: Connection, into: str | None = None) -> Figures:
    """The figures of the server; ``into`` as for ``capacity``."""
    row = only_row(connection, _SERVER)
    hints: dict[str, int] = dict(connection.execute(_HINTS).fetchall())
    ram, hint = None, ""
    if "effective_cache_size" in hints:
        ram, hint = hints["effective_cache_size"] * 4 // 3, "effective_cache_size"
    elif "shared_buffers" in hints:
        ram, hint = hints["shared_buffers"] * 4, "shared_buffers"
    return Figures(limits(connection, into), row[0], row[1], row[2], ram, hint)
