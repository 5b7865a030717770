"""What the server says about the live database without going into it: whether it is there and lets anybody in, who is
at work on it, what earlier runs kept."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg

from lastgood import status
from lastgood.command.recover.evidence import Seen, Server
from lastgood.command.recover.platform import roles_that_tell
from lastgood.config.tables import PgBouncer
from lastgood.errors import LastgoodError
from lastgood.plan.unfinished import unfinished
from lastgood.postgres import database, lock
from lastgood.postgres.leftover import leftovers
from lastgood.postgres.mark import marked, server_clock
from lastgood.postgres.server import Connection, Target

SHOWN = 5
# Nothing here may wait for anybody: the server of an emergency is full of locks.
STATEMENT_SECONDS = 2.0
LOCK_TIMEOUT = "300ms"


def quick(connection: Connection, seconds: float = STATEMENT_SECONDS) -> Connection:
    """The same connection, in which nothing is written and nothing takes long."""
    connection.execute("SET default_transaction_read_only = on")
    connection.execute("SELECT set_config('lock_timeout', %s, false)", [LOCK_TIMEOUT])
    limit(connection, seconds)
    return connection


def limit(connection: Connection, seconds: float) -> None:
    """How long each statement may take from now on."""
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [f"{max(50, round(seconds * 1000))}ms"])


def look(target: Target, name: str, pgbouncer: PgBouncer) -> Server:
    """Never raises for what the server refuses: what it says is in ``error``, and its absence is evidence too."""
    try:
        with database.connect_maintenance(target, name) as maintenance:
            return _look(quick(maintenance), target, name, pgbouncer)
    except LastgoodError as error:
        return Server(error=str(error), hint=error.hint)
    except psycopg.Error as error:
        said = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
        return Server(error=f"cannot look at the server: {said}", hint="Read the server's log of this minute.")


def _look(maintenance: Connection, target: Target, name: str, pgbouncer: PgBouncer) -> Server:
    found = database.find(maintenance, name)
    row = maintenance.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone()
    about: dict[str, Any] = {
        "version": maintenance.info.parameter_status("server_version") or "",
        "clock": server_clock(maintenance),
        "standby": bool(row is not None and row[0]),
        "similar_names": _similar(maintenance, name),
        "platform_roles": tuple(
            str(role)
            for (role,) in maintenance.execute(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", [roles_that_tell()]
            )
        ),
    }
    if found is None:
        return Server(**about, access="missing", **_ours(maintenance, target.at(name)))
    about["bytes"] = found.size_bytes
    about["read_only"] = _read_only(maintenance, found.oid)
    if found.invalid:
        return Server(**about, access="invalid", **_ours(maintenance, target.at(name)))
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
                f"run {each.run} has left {each.indexes_left} indexes and {each.foreign_keys_left} foreign keys for "
                f"later; they are built by: lastgood resume {each.run}",
                "its list in the database",
            )
            for each in seen.finishing
            if each.left
        ),
        "paused": tuple(
            Seen(f"{each.waiting} clients wait: it was paused, and goes on with: {each.command}", each.console)
            for each in seen.pools
            if each.paused
        ),
    }
    if not found.allow_connections:
        return Server(**about, access="closed", why_closed="ALLOW_CONNECTIONS is false")
    try:
        connect(target, name).close()
    except psycopg.Error as error:
        return Server(**about, access="refused", why_closed=said(error))
    return Server(**about)


def _ours(maintenance: Connection, target: Target) -> dict[str, Any]:
    """What belongs to a live database that is not there: ``status.read`` is about one that is."""
    name = target.dbname
    working = lock.holder(maintenance, name) or ""
    kept = [
        status.described(found, mark)
        for found, mark in marked(maintenance)
        if mark.live == name and mark.role == "kept" and not found.invalid
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
    """Databases that may be it under another name, kept ones and shadows aside; the likeliest first."""
    ours = {found.name for found, _ in marked(maintenance)}
    rows = maintenance.execute(
        "SELECT datname FROM pg_catalog.pg_database WHERE NOT datistemplate AND datname <> %s"
        " AND (starts_with(lower(datname), lower(%s)) OR starts_with(lower(%s), lower(datname)))"
        " AND datname NOT IN ('postgres') ORDER BY lower(datname) <> lower(%s), length(datname), datname",
        [name, name, name, name],
    ).fetchall()
    return tuple(str(each) for (each,) in rows if each not in ours)[:SHOWN]


def _read_only(maintenance: Connection, oid: int) -> str:
    """The command that takes back a read-only setting of the database, or of a role in it; empty without one."""
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
    """A quick connection to a database, also to one whose login trigger fails, where we may pass it by. Raises
    psycopg.Error."""
    try:
        return quick(target.at(name).connect(application_name="lastgood recover"))
    except psycopg.Error:
        with suppress(psycopg.Error):
            return quick(target.at(name).without_event_triggers().connect(application_name="lastgood recover"))
        raise


def said(error: psycopg.Error) -> str:
    """The server's words on one line, without libpq's beginning of the sentence."""
    text = error.diag.message_primary or " ".join(str(error).split())
    return text.rpartition("FATAL: ")[2].strip() or type(error).__name__
