"""Inspection of the live database from outside: whether it exists and accepts connections, which run is in progress,
and what earlier runs kept."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from lastgood import status
from lastgood.command.recover.evidence import Seen, ServerState
from lastgood.command.recover.platform import identifying_roles
from lastgood.config.tables import PgBouncer
from lastgood.errors import LastgoodError
from lastgood.in_place.kept import left_by_runs
from lastgood.plan.unfinished import unfinished
from lastgood.postgres import clock, database, lock
from lastgood.postgres.leftover import leftovers
from lastgood.postgres.mark import marked
from lastgood.postgres.server import Connection, Target, read_tables_only
from lastgood.text.units import counted

SHOWN = 5
# No statement here may wait for long: in an emergency, the server is full of locks.
STATEMENT_SECONDS = 2.0
LOCK_TIMEOUT = "300ms"


def quick(connection: Connection, seconds: float = STATEMENT_SECONDS) -> Connection:
    """Make a connection read-only and limit its statements; return it."""
    connection.execute("SET default_transaction_read_only = on")
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
    limit(connection, seconds)
    read_tables_only(connection)
    return connection


def limit(connection: Connection, seconds: float) -> None:
    """Set the time limit of each following statement."""
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{max(50, round(seconds * 1000))}ms"])


def inspect(target: Target, name: str, pgbouncer: PgBouncer) -> ServerState:
    """Inspect the server. An error of the server is not raised but returned in ``error``: it is evidence, too."""
    try:
        with database.connect_maintenance(target, name) as maintenance:
            return _inspect(quick(maintenance), target, name, pgbouncer)
    except LastgoodError as error:
        return ServerState(error=str(error), hint=error.hint)
    except psycopg.Error as error:
        message = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
        return ServerState(
            error=f"cannot inspect the server: {message}", hint="Read the latest entries of the server's log."
        )


def _inspect(maintenance: Connection, target: Target, name: str, pgbouncer: PgBouncer) -> ServerState:
    found = database.find(maintenance, name)
    row = maintenance.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
    about: dict[str, Any] = {
        "version": maintenance.info.parameter_status("server_version") or "",
        "clock": clock.now(maintenance),
        "standby": bool(row is not None and row[0]),
        "similar_names": _similar(maintenance, name),
        "platform_roles": tuple(
            str(role)
            for (role,) in maintenance.execute(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", [identifying_roles()]
            )
        ),
    }
    if found is None:
        return ServerState(**about, access="missing", **_ours(maintenance, target.at(name)))
    about["bytes"] = found.size_bytes
    about["read_only"] = _read_only(maintenance, found.oid)
    if found.invalid:
        return ServerState(**about, access="invalid", **_ours(maintenance, target.at(name)))
    seen = status.read(target.at(name), pgbouncer)
    about |= {
        "sessions": seen.live.sessions,
        "working": seen.working,
        "unfinished": tuple(each for each in seen.unfinished if each.kind == "rollback"),
        "kept": tuple(each for each in seen.kept if not each.invalid),
        "deployment": seen.deployment,
        "leftovers": tuple(each.name for each in seen.leftovers),
        "finishing": tuple(
            Seen(
                f"run {each.run} has deferred {counted(each.indexes_left, 'index', 'indexes')} and "
                f"{counted(each.foreign_keys_left, 'foreign key')}; "
                f"to build them: lastgood resume {each.run}",
                "its list in the database",
            )
            for each in seen.finishing
            if each.left
        ),
        "paused": tuple(
            Seen(f"PgBouncer is paused and {each.waiting} clients wait; to resume it: {each.command}", each.console)
            for each in seen.pools
            if each.paused
        ),
    }
    if not found.allow_connections:
        return ServerState(**about, access="closed", why_closed="ALLOW_CONNECTIONS is false")
    try:
        connect(target, name).close()
    except psycopg.Error as error:
        return ServerState(**about, access="refused", why_closed=message_of(error))
    return ServerState(**about)


def _ours(maintenance: Connection, target: Target) -> dict[str, Any]:
    """The state of a live database that does not exist: ``status.read`` is for one that does."""
    name = target.dbname
    working = lock.holder(maintenance, name) or ""
    kept = [
        status.described(found, mark)
        for found, mark in left_by_runs(maintenance, target)
        if mark.role == "kept" and not found.invalid
    ]
    runs = [
        status.unfinished_of(maintenance, each, working)
        for each in unfinished(maintenance, target, None)
        if each.mark.role == "shadow"
    ]
    left = [] if working else [each.name for each in leftovers(maintenance, name)]
    kept.sort(key=lambda each: each.made_at, reverse=True)
    return {"working": working, "kept": tuple(kept), "unfinished": tuple(runs), "leftovers": tuple(left)}


def _similar(maintenance: Connection, name: str) -> tuple[str, ...]:
    """Return databases that may be the renamed live one, except kept ones and shadows; the likeliest first."""
    ours = {found.name for found, _ in marked(maintenance)}
    rows = maintenance.execute(
        "SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate AND datname <> %s"
        " AND (starts_with(lower(datname), lower(%s)) OR starts_with(lower(%s), lower(datname)))"
        " AND datname NOT IN ('postgres') ORDER BY lower(datname) <> lower(%s), length(datname), datname",
        [name, name, name, name],
    ).fetchall()
    return tuple(str(each) for (each,) in rows if each not in ours)[:SHOWN]


def _read_only(maintenance: Connection, oid: int) -> str:
    """Return the command that resets a read-only setting of the database or of a role in it; empty without one."""
    rows = maintenance.execute(
        "SELECT format('ALTER %%s RESET default_transaction_read_only',"
        "   CASE WHEN s.setrole = 0 THEN format('DATABASE %%I', d.datname)"
        "        WHEN s.setdatabase = 0 THEN format('ROLE %%I', r.rolname)"
        "        ELSE format('ROLE %%I IN DATABASE %%I', r.rolname, d.datname) END)"
        " FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase"
        " LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole"
        " WHERE s.setdatabase IN (0, %s) AND EXISTS (SELECT FROM unnest(s.setconfig) c"
        "   WHERE lower(c) IN ('default_transaction_read_only=on', 'default_transaction_read_only=true',"
        "                      'default_transaction_read_only=1', 'default_transaction_read_only=yes'))"
        " ORDER BY s.setrole",
        [oid],
    ).fetchall()
    return str(rows[0][0]) if rows else ""


def connect(target: Target, name: str) -> Connection:
    """Open a quick connection to a database, without event triggers if its login trigger fails. Raises
    psycopg.Error."""
    try:
        return quick(target.at(name).connect(application_name="lastgood recover"))
    except psycopg.Error:
        with suppress(psycopg.Error):
            return quick(target.at(name).without_event_triggers().connect(application_name="lastgood recover"))
        raise


def message_of(error: psycopg.Error) -> str:
    """Return the server's message on one line, without libpq's prefix."""
    text = error.diag.message_primary or " ".join(str(error).split())
    return text.rpartition("FATAL: ")[2].strip() or type(error).__name__
