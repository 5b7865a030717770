"""What speaks against a rollback, measured before anything is changed. One function a check; each yields findings.

A refusal is a thing that would make the run fail, or lose something that nobody asked to lose. A caution is a thing
that the operator has to know. To add a check, write a function and list it in ``CHECKS``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from lastgood import points
from lastgood.config import NO_PGBOUNCER, PgBouncer
from lastgood.dump.summary import DumpSummary
from lastgood.engine.pace import AS_IT_FITS, Pace
from lastgood.errors import Refused
from lastgood.facts import Facts
from lastgood.plan import Fence, Finding
from lastgood.points import RestorePoint
from lastgood.postgres import binaries, pgbouncer
from lastgood.postgres.capacity import OTHER_SESSIONS, limits
from lastgood.postgres.database import Database
from lastgood.postgres.holders import holders
from lastgood.postgres.machine import is_here
from lastgood.postgres.pgbouncer import ConsoleState
from lastgood.postgres.risks import risks
from lastgood.postgres.server import Connection
from lastgood.postgres.sessions import END_THEM, in_the_way, shut_tables
from lastgood.postgres.strain import Limits

SUPPORTED = range(15, 19)
# Tables, indexes and WAL of a restored database, against the size of the live one.
ROOM_FACTOR = 1.3
# Sessions of a run that are in the live database at once: the fence, the emergency backup, a reader.
SESSIONS_IN_LIVE = 3


@dataclass(frozen=True, slots=True)
class Subject:
    """What the checks look at."""

    maintenance: Connection
    live: Connection
    database: Database
    point: RestorePoint
    facts: Facts
    summary: DumpSummary
    fence: Fence
    store: Path
    pace: Pace = AS_IT_FITS
    pgbouncer: PgBouncer = NO_PGBOUNCER
    pools: Sequence[ConsoleState] = ()


def findings(subject: Subject) -> tuple[Finding, ...]:
    """All findings, refusals first."""
    found = [finding for check in CHECKS for finding in check(subject)]
    order = {"refusal": 0, "caution": 1, "note": 2}
    return tuple(sorted(found, key=lambda finding: order[finding.level]))


def _server_version(s: Subject) -> Iterator[Finding]:
    major = s.maintenance.info.server_version // 10000
    if major not in SUPPORTED:
        yield Finding(
            level="caution",
            code="server_version",
            text=f"PostgreSQL {major} was never tested with this lastgood (15 to 18 were)",
        )
    dumped = s.facts.rules.server_major
    if dumped is not None and dumped > major:
        yield Finding(
            level="refusal",
            code="older_server",
            text=f"the restore point comes from PostgreSQL {dumped}, the server is {major} and may not understand it",
            hint="Restore it on a server of that version: lastgood restore POINT --into NAME --db URL",
        )


def _standby(s: Subject) -> Iterator[Finding]:
    if (s.maintenance.execute("SELECT pg_is_in_recovery()").fetchone() or (False,))[0]:
        yield Finding(
            level="refusal",
            code="standby",
            text="this server is a standby, or still recovering: nothing can be written to it",
            hint="Connect to the primary.",
        )


def _programs(s: Subject) -> Iterator[Finding]:
    try:
        binaries.find("pg_dump", at_least=s.maintenance.info.server_version // 10000)
    except Refused as error:
        yield Finding(
            level="refusal", code="no_pg_dump", text=f"no emergency backup can be made: {error}", hint=error.hint
        )


def _pooler(s: Subject) -> Iterator[Finding]:
    pids = {s.live.execute("SELECT pg_backend_pid()").fetchone() for _ in range(3)}
    if len(pids) > 1:
        yield Finding(
            level="refusal",
            code="transaction_pooler",
            text="this connection goes through a transaction pooler: each statement may meet another session",
            hint="Connect to the server itself, or through the pooler's session mode.",
        )


def _read_only(s: Subject) -> Iterator[Finding]:
    row = s.maintenance.execute(
        "SELECT 1 FROM pg_catalog.pg_db_role_setting WHERE setdatabase = %s AND setrole = 0"
        " AND 'default_transaction_read_only=on' = ANY (setconfig)",
        [s.database.oid],
    ).fetchone()
    if row is not None:
        yield Finding(
            level="caution",
            code="set_read_only",
            text=f'"{s.database.name}" is set read-only (default_transaction_read_only), and stays so afterwards',
            hint=f'To lift it: ALTER DATABASE "{s.database.name}" RESET default_transaction_read_only',
        )


def _encoding(s: Subject) -> Iterator[Finding]:
    if s.database.encoding not in (s.summary.encoding, "UTF8", "SQL_ASCII"):
        yield Finding(
            level="caution",
            code="encoding",
            text=f'the restore point is in {s.summary.encoding}, "{s.database.name}" in {s.database.encoding}: '
            "a character that it lacks stops the run",
        )


def _privileges(s: Subject) -> Iterator[Finding]:
    row = s.maintenance.execute(
        "SELECT r.rolsuper, r.rolcreatedb, pg_has_role(current_user, %s, 'MEMBER'), current_user"
        " FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
        [s.database.owner],
    ).fetchone()
    assert row is not None
    is_superuser, may_create, is_owner, me = row
    if is_superuser:
        return
    if not may_create:
        yield Finding(
            level="refusal",
            code="no_createdb",
            text=f'role "{me}" may neither create nor rename a database',
            hint=f'As a superuser: ALTER ROLE "{me}" CREATEDB',
        )
    if not is_owner:
        yield Finding(
            level="refusal",
            code="not_owner",
            text=f'role "{me}" is not a member of "{s.database.owner}", which owns "{s.database.name}"',
            hint=f'As a superuser: GRANT "{s.database.owner}" TO "{me}", or connect as "{s.database.owner}"',
        )


def _roles(s: Subject) -> Iterator[Finding]:
    if not s.summary.roles:
        return
    rows = s.maintenance.execute("SELECT rolname FROM pg_catalog.pg_roles").fetchall()
    missing = sorted(set(s.summary.roles) - {row[0] for row in rows})
    if missing:
        yield Finding(
            level="refusal",
            code="missing_roles",
            text="the restore point needs roles that this server lacks: " + ", ".join(missing),
            hint="Create them: " + "; ".join(f'CREATE ROLE "{name}" NOLOGIN' for name in missing),
        )


def _extensions(s: Subject) -> Iterator[Finding]:
    wanted = {extension.name for extension in s.facts.extensions}
    rows = s.maintenance.execute("SELECT name FROM pg_catalog.pg_available_extensions").fetchall()
    missing = sorted(wanted - {row[0] for row in rows})
    if missing:
        yield Finding(
            level="refusal",
            code="missing_extensions",
            text="the restore point needs extensions that are not installed on this server: " + ", ".join(missing),
            hint="Install their packages on the server's machine, then run the rollback again.",
        )


def _tablespaces(s: Subject) -> Iterator[Finding]:
    rows = s.maintenance.execute("SELECT spcname FROM pg_catalog.pg_tablespace").fetchall()
    missing = sorted(set(s.summary.tablespaces) - {row[0] for row in rows})
    if missing:
        yield Finding(
            level="refusal",
            code="missing_tablespaces",
            text="the restore point needs tablespaces that this server lacks: " + ", ".join(missing),
            hint="Create them, then run the rollback again.",
        )


def _holders(s: Subject) -> Iterator[Finding]:
    for holder in holders(s.maintenance, s.database.name, s.live):
        yield Finding(
            level="refusal" if holder.blocking else "caution",
            code="holder",
            text=f"{holder.kind} {holder.what}: {holder.explanation.rstrip('.')}",
            hint=holder.command,
        )


def _sessions(s: Subject) -> Iterator[Finding]:
    text = in_the_way(s.maintenance, s.database.oid, s.database.name)
    if text:
        yield Finding(level="refusal", code="unkillable_sessions", text=text, hint=END_THEM)


def _shut(s: Subject) -> Iterator[Finding]:
    shut = shut_tables(s.live)
    for pid in sorted({each.pid for each in shut}):
        held = [each for each in shut if each.pid == pid]
        names = ", ".join(f'"{each.schema}"."{each.name}"' for each in held[:5])
        more = f" and {len(held) - 5} more" if len(held) > 5 else ""
        who = f'process {pid} of "{held[0].user}"' if held[0].user else f"process {pid}"
        called = f' ("{held[0].application_name}")' if held[0].application_name else ""
        yield Finding(
            level="caution",
            code="shut_tables",
            text=f"{who}{called} has locked {names}{more} against readers: the rows shown for it are an estimate, and "
            + ("the run ends that session" if s.fence == "now" else "the run waits for it"),
            hint=f"To end it yourself: SELECT pg_terminate_backend({pid})",
        )


def _locks(s: Subject) -> Iterator[Finding]:
    if s.fence != "now":
        return
    row = s.live.execute(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p')),"
        " current_setting('max_locks_per_transaction')::int8"
        " * (current_setting('max_connections')::int8 + current_setting('max_prepared_transactions')::int8)"
    ).fetchone()
    assert row is not None
    tables, room = int(row[0]), int(row[1])
    if tables > room // 2:
        yield Finding(
            level="refusal",
            code="too_many_tables",
            text=f"{tables} tables need a lock each to keep writers out, and the server has room for {room} locks",
            hint="Run the rollback with --fence at-swap, or raise max_locks_per_transaction.",
        )


def _room(s: Subject) -> Iterator[Finding]:
    need = int((s.database.size_bytes or 0) * ROOM_FACTOR)
    try:
        with s.maintenance.transaction():
            row = s.maintenance.execute("SELECT current_setting('data_directory')").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        row = None
    folder = Path(row[0]) if row is not None else None
    # Behind "localhost" there may be a container or a tunnel, and the folder of that name here be another server's.
    if folder is None or not is_here(s.maintenance) or not folder.exists():
        yield Finding(
            level="note",
            code="room_unknown",
            text=f"free disk space on the server can't be measured from here; about {_size(need)} are needed",
        )
    elif shutil.disk_usage(folder).free < need:
        yield Finding(
            level="refusal",
            code="no_room",
            text=f"the server's disk has {_size(shutil.disk_usage(folder).free)} free; about {_size(need)} are needed",
            hint="Make room: lastgood prune lists kept databases and old restore points.",
        )
    here = shutil.disk_usage(s.store if s.store.exists() else s.store.parent).free
    if here < (s.database.size_bytes or 0):
        yield Finding(
            level="refusal",
            code="no_room_for_emergency_backup",
            text=f'the store "{s.store}" has {_size(here)} free; the emergency backup may need '
            f"{_size(s.database.size_bytes or 0)}",
            hint="Make room there, or name another store with --store.",
        )


def _connections(s: Subject) -> Iterator[Finding]:
    """The run's own sessions and one worker; those for the checks themselves are open already."""
    for limit, needed in [
        *((each, OTHER_SESSIONS + 1) for each in limits(s.maintenance)),
        *((each, SESSIONS_IN_LIVE) for each in limits(s.maintenance, s.database.name) if each.what.startswith("data")),
    ]:
        free = max(0, limit.limit - limit.used)
        if free < needed:
            yield Finding(
                level="caution",
                code="few_connections",
                text=f"{limit.what} {limit.limit} connections and uses {limit.used}; the run needs {needed} more at "
                "times, and stops where it gets none",
                hint="End sessions that are idle: SELECT * FROM pg_stat_activity WHERE state = 'idle'",
            )


def _wal(s: Subject) -> Iterator[Finding]:
    expected = int((s.database.size_bytes or 0) * ROOM_FACTOR)
    for risk in risks(s.maintenance, expected, Limits(max_wal_lag=s.pace.max_wal_lag)):
        yield Finding(level=risk.level, code=risk.code, text=risk.text, hint=risk.hint)


def _pgbouncer(s: Subject) -> Iterator[Finding]:
    for risk in pgbouncer.findings(s.pools, s.pgbouncer, s.database.name, fence_now=s.fence == "now"):
        yield Finding(level=risk.level, code=risk.code, text=risk.text, hint=risk.hint)


def _same_database(s: Subject) -> Iterator[Finding]:
    if s.facts.database not in (None, s.database.name):
        yield Finding(
            level="caution",
            code="other_database",
            text=f'the restore point was made of a database named "{s.facts.database}", not "{s.database.name}"',
        )


def _partial(s: Subject) -> Iterator[Finding]:
    if lacking := points.lacking(s.point, s.summary):
        yield Finding(
            level="refusal",
            code="partial_point",
            text=f"the restore point has no {lacking}: it can't replace a whole database",
            hint="Choose a complete one: lastgood points",
        )
    if s.summary.rows_without_table:
        names = ", ".join(map(str, s.summary.rows_without_table))
        yield Finding(
            level="refusal",
            code="rows_without_table",
            text=f"the restore point has rows of {names}, and makes no such table: it can't replace a whole database",
            hint="Restore it beside the live database: lastgood restore POINT --into NAME",
        )
    if s.summary.tables_without_data:
        names = ", ".join(map(str, s.summary.tables_without_data))
        yield Finding(
            level="caution",
            code="tables_without_data",
            text=f"the restore point has no data section for {names}: they will be empty",
        )


CHECKS: tuple[Callable[[Subject], Iterator[Finding]], ...] = (
    _server_version,
    _standby,
    _programs,
    _pooler,
    _read_only,
    _encoding,
    _privileges,
    _roles,
    _extensions,
    _tablespaces,
    _holders,
    _sessions,
    _pgbouncer,
    _shut,
    _locks,
    _connections,
    _wal,
    _room,
    _same_database,
    _partial,
)


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
