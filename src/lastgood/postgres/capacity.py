"""How much of the server a load may take: connections, memory, parallel workers, and the settings of its sessions.

Production comes first: connections stay free for others, and memory is shared out so that even all of it at once does
not bring the machine to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.postgres.machine import Machine, machine
from lastgood.postgres.server import Connection, set_where_possible
from lastgood.text import units

# Connections that stay free for the application and for whoever comes to help.
LEFT_FREE = 5
# What a rollback opens beside its workers: the fence and its guard, the emergency backup, the session that makes the
# shadow, a reader in the live database, the watcher of the server, the helper of the swap.
OTHER_SESSIONS = 7
MOST_WORKERS = 8  # where the server's processors are not known
FEW_WORKERS = 4  # where nothing at all is known
MEMORY_SHARE = 4  # a quarter of the machine's memory
# Beyond this an index build sorts no faster: what does not fit is merged in one pass.
MOST_MEMORY = 512 << 20

# What every session of a load sets, beside what every session of ours has. Limits of the role, the database or the
# server would cut a long COPY or index build short. Without synchronous commits nothing is lost: what they did not
# write yet is written by the commit of the swap, which comes after it in the same WAL.
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
class Limit:
    """A limit of connections, ``used`` of them taken; ``what`` as in "the server has …"."""

    what: str
    limit: int
    used: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What the server says of itself. Sizes in bytes.

    ``processes``: how many parallel workers it may run at once; ``tuned``: whether somebody ever set that.
    ``ram_hint``: the memory that its settings let suppose (see ``_HINTS``), from ``hint_of``.
    """

    limits: tuple[Limit, ...]
    processes: int
    tuned: bool
    maintenance_work_mem: int
    ram_hint: int | None = None
    hint_of: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """``jobs``: the worker connections to open; ``cpus``: processors, known or supposed. ``maintenance_work_mem`` in
    bytes, for each worker. ``settings`` are those of each worker's session. ``reasons`` say in words why.

    ``free``: connections that the scarcest limit would leave for workers; below 1 the run's own sessions hardly fit.
    """

    jobs: int
    cpus: int
    maintenance_work_mem: int
    most_parallel_workers: int
    free: int
    settings: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]

    def parallel_workers(self, running: int) -> int:
        """The ``max_parallel_maintenance_workers`` of a job that builds an index while ``running`` jobs are at work,
        this one included: none where each processor has a job, all for the last one alone."""
        return max(0, min(self.most_parallel_workers, self.cpus // max(1, running) - 1))

    def apply(self, connection: Connection) -> None:
        """Sets the settings on a worker's connection; those that the server does not know or allow are left alone."""
        set_where_possible(connection, self.settings)


def capacity(
    connection: Connection,
    *,
    jobs: int | None,
    into: str | None = None,
    others: int = OTHER_SESSIONS,
) -> Capacity:
    """What a load may take now. ``jobs``: as many as the user asked for, None to decide.

    ``into``: the database that the workers connect to, when it exists already: it may have a limit of its own (a
    shadow has none). ``others``: how many sessions the run has yet to open beside its workers.
    """
    return share_out(figures(connection, into), machine(connection), jobs=jobs, others=others)


def share_out(server: Figures, found: Machine, *, jobs: int | None, others: int) -> Capacity:
    """The rules alone."""
    cpus, why = _processors(server, found)
    wanted = jobs or cpus
    free = min((each.limit - each.used - others - LEFT_FREE for each in server.limits), default=wanted)
    granted = max(1, min(wanted, free))
    reasons = [f"{_workers(wanted)}: as asked for" if jobs else f"{_workers(wanted)}: {why}"]
    if granted < wanted:
        tight = min(server.limits, key=lambda each: each.limit - each.used)
        reasons = [
            f"{_workers(granted)} instead of {wanted}: {tight.what} {tight.limit} connections and uses {tight.used}; "
            f"the run needs {others} more besides, and {LEFT_FREE} stay free"
        ]
    most_parallel = max(0, min(server.processes, cpus - 1))
    memory, why = _memory(server, found, max(granted, 1 + most_parallel))
    reasons.append(f"maintenance_work_mem {units.size(memory)}: {why}")
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


def _processors(server: Figures, found: Machine) -> tuple[int, str]:
    if found.cpus is not None:
        return found.cpus, f"the machine has {units.counted(found.cpus, 'processor')}"
    if server.tuned:
        count = max(1, min(server.processes, MOST_WORKERS))
        return count, f"the server may run {server.processes} parallel processes; its machine can't be seen from here"
    return FEW_WORKERS, "how many processors the server has can't be seen from here"


def _memory(server: Figures, found: Machine, processes: int) -> tuple[int, str]:
    """At most a quarter of the memory, if all processes took their share at once. Parallel workers of one index build
    share one maintenance_work_mem by PostgreSQL's account; counting each of them is the careful side."""
    own = server.maintenance_work_mem
    ram = found.ram or server.ram_hint
    if ram is None:
        return own, "as the server has it, since its memory can't be seen from here"
    share = max(1 << 20, ram // MEMORY_SHARE // processes)
    known = f"{units.size(ram)} of memory" + ("" if found.ram else f", supposed from {server.hint_of}")
    count = "1 process" if processes == 1 else f"{processes} processes"
    if own > share:
        return share, f"less than the server's own {units.size(own)}, a quarter of {known} for {count}"
    if own >= min(share, MOST_MEMORY):
        return own, "as the server has it"
    return min(share, MOST_MEMORY), f"at most a quarter of {known} for {count}"


# Roles without pg_read_all_stats do not see the kind of a backend; those that count have a role and a database.
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
# Administrators set the one to half or three quarters of the memory, the other to a quarter; what nobody set tells
# nothing.
_HINTS = """
SELECT name, pg_catalog.pg_size_bytes(pg_catalog.current_setting(name)) FROM pg_catalog.pg_settings
WHERE name IN ('effective_cache_size', 'shared_buffers') AND setting <> boot_val ORDER BY name
"""


def limits(connection: Connection, database: str | None = None) -> tuple[Limit, ...]:
    """What bounds the number of our sessions: the server, and for roles other than superusers the role's own limit and
    that of ``database``. Connections that are reserved for administrators do not count."""
    row = connection.execute(_LIMITS, {"name": database or ""}).fetchone()
    assert row is not None
    most, is_superuser, role, role_limit, database_limit, used, used_by_role, used_in_database = row
    found = [Limit("the server has", most, used)]
    if not is_superuser:
        if role_limit >= 0:
            found.append(Limit(f'role "{role}" may have', role_limit, used_by_role))
        if database_limit is not None and database_limit >= 0:
            found.append(Limit(f'database "{database}" may have', database_limit, used_in_database))
    return tuple(found)


def figures(connection: Connection, into: str | None = None) -> Figures:
    """What the server says of itself; ``into`` as for ``capacity``."""
    row = connection.execute(_SERVER).fetchone()
    assert row is not None
    hints: dict[str, int] = dict(connection.execute(_HINTS).fetchall())
    ram, hint = None, ""
    if "effective_cache_size" in hints:
        ram, hint = hints["effective_cache_size"] * 4 // 3, "effective_cache_size"
    elif "shared_buffers" in hints:
        ram, hint = hints["shared_buffers"] * 4, "shared_buffers"
    return Figures(limits(connection, into), row[0], row[1], row[2], ram, hint)
