"""What holds on to a database beyond its sessions: things bound to its OID, or that come back by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from typing import Any

import psycopg
from psycopg import sql

from lastgood.postgres import database
from lastgood.postgres.server import Connection


@dataclass(frozen=True, slots=True)
class Holder:
    """One thing that holds on to the live database.

    ``blocking``: the swap fails, or loses something, unless it is dealt with or agreed to; others are only told.
    ``what`` names it. ``explanation`` is a sentence on what happens to it. ``command`` is what to run, empty where
    nothing needs to be done; it says so when it must run elsewhere than in the maintenance database. ``fatal``: it is
    no use to agree to it, as the run would fail.
    """

    kind: str
    what: str
    blocking: bool
    explanation: str
    command: str
    fatal: bool = False


# Extension → (blocking, explanation, command in the live database)
EXTENSIONS: dict[str, tuple[bool, str, str]] = {
    "pg_cron": (
        True,
        "Its jobs come back, and run again, as they were at the restore point; its scheduler ends with the switch, and"
        " starts again with the server.",
        "SELECT jobid, schedule, command, database, active FROM cron.job",
    ),
    "timescaledb": (
        True,
        "Its background workers come back by themselves, and a restore must stand between timescaledb_pre_restore()"
        " and timescaledb_post_restore().",
        "SELECT _timescaledb_functions.stop_background_workers()",
    ),
    "pglogical": (True, "Its workers and slots are bound to the old database.", "SELECT * FROM pglogical.node"),
    "pg_net": (
        False,
        "Its worker may not answer the server, and then DROP DATABASE of the kept database hangs until it is ended.",
        "SELECT net.worker_restart()",
    ),
    "powa": (False, "Its worker may keep DROP DATABASE of the kept database waiting.", ""),
    "pgautofailover": (False, "Its worker may keep DROP DATABASE of the kept database waiting.", ""),
}


def holders(connection: Connection, live: str, inside: Connection | None = None) -> list[Holder]:
    """What holds on to the database ``live``, seen from its maintenance database.

    ``inside`` is a connection to the live database itself: publications and extensions show only there. Both need
    autocommit, or a transaction that is still well. Raises Refused when there is no such database.
    """
    oid = database.describe(connection, live).oid
    found = [
        *_prepared(connection, live),
        *_slots(connection, live),
        *_subscriptions(connection, oid),
        *_processes(connection, oid),
        *_standbys(connection),
    ]
    if inside is not None:
        subscribed = any(holder.kind == "logical replication slot" for holder in found)
        found += [*_publications(inside, subscribed), *_extensions(inside)]
    return found


def _prepared(connection: Connection, live: str) -> Iterator[Holder]:
    query = sql.SQL("SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = {} ORDER BY prepared")
    for gid, owner, prepared in _rows(connection, query, live):
        quoted = sql.Literal(gid).as_string(connection)
        yield Holder(
            "prepared transaction",
            f'"{gid}" of "{owner}", prepared {prepared.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC',
            True,
            "The database can't be renamed while it is open; it can be ended only from inside that database.",
            f'In the database "{live}": COMMIT PREPARED {quoted}, or ROLLBACK PREPARED {quoted}',
            fatal=True,
        )


def _slots(connection: Connection, live: str) -> Iterator[Holder]:
    query = sql.SQL(
        "SELECT slot_name, plugin, active, active_pid FROM pg_replication_slots WHERE database = {} ORDER BY slot_name"
    )
    for name, plugin, active, pid in _rows(connection, query, live):
        use = f"in use by process {pid}" if active else "not in use"
        yield Holder(
            "logical replication slot",
            f'"{name}" ({plugin}, {use})',
            True,
            "It stays with the old database: its consumers ask for it under the live name and fail, while it keeps WAL"
            " from being removed. They must take a new snapshot anyway, as the data goes back in time.",
            f"When its consumer is stopped: SELECT pg_drop_replication_slot({sql.Literal(name).as_string(connection)})",
        )


def _subscriptions(connection: Connection, oid: int) -> Iterator[Holder]:
    # subconninfo, which has passwords, is all that a superuser alone may read.
    query = sql.SQL("SELECT subname, subenabled, subslotname FROM pg_subscription WHERE subdbid = {} ORDER BY subname")
    try:
        with connection.transaction():
            rows = _rows(connection, query, oid)
    except psycopg.errors.InsufficientPrivilege:
        yield Holder(
            "subscription",
            "unknown",
            False,
            "The server does not let this role see whether the database subscribes to another one.",
            "As a superuser: SELECT subname FROM pg_subscription",
        )
        return
    for name, enabled, slot in rows:
        quoted = sql.Identifier(name).as_string(connection)
        said = "enabled" if enabled else "disabled"
        explanation = "It stays with the old database and goes on filling that one; the restored one receives nothing."
        command = f"In the live database: ALTER SUBSCRIPTION {quoted} DISABLE"
        if not enabled:
            explanation = (
                "It stays with the old database, and the restored one receives nothing when it is enabled again."
            )
            command = "To carry it over, create it again in the restored database after the swap"
            if not slot:
                command += f", and drop it here now: DROP SUBSCRIPTION {quoted}"
        yield Holder(
            "subscription",
            f'"{name}" ({said}' + (f', slot "{slot}" on the publisher)' if slot else ", no slot)"),
            True,
            explanation,
            command,
        )


def _processes(connection: Connection, oid: int) -> Iterator[Holder]:
    query = sql.SQL("""
        SELECT pid, backend_type, application_name FROM pg_stat_activity
        WHERE datid = {} AND backend_type NOT IN ('client backend', 'autovacuum worker', 'parallel worker')
        ORDER BY pid""")
    for pid, kind, application in _rows(connection, query, oid):
        yield Holder(
            "background process",
            f"{kind}, process {pid}" + (f' ("{application}")' if application else ""),
            False,
            "It is ended for the swap; if something starts it again, that is under the new database.",
            "",
        )


def _standbys(connection: Connection) -> Iterator[Holder]:
    # A logical walsender is in the database that it decodes; one that serves a standby is in none.
    rows = connection.execute("""
        SELECT r.application_name, host(r.client_addr), r.pid
        FROM pg_stat_replication r JOIN pg_stat_activity a ON a.pid = r.pid
        WHERE a.datid IS NULL ORDER BY r.pid""").fetchall()
    for application, address, pid in rows:
        place = f" at {address}" if address else ""
        yield Holder(
            "standby",
            f'"{application}"{place}, process {pid}',
            False,
            "Sessions that are open on it go on reading the old data after the swap, until they end.",
            "On the standby, after the swap: SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )


def _publications(inside: Connection, subscribed: bool) -> Iterator[Holder]:
    for (name,) in inside.execute("SELECT pubname FROM pg_publication ORDER BY pubname").fetchall():
        yield Holder(
            "publication",
            f'"{name}"',
            subscribed,
            "Its subscribers have rows that the restored database does not have; their copies must be made again.",
            "On each subscriber, after the swap: empty the tables, then create the subscription again with"
            " copy_data = true",
        )


def _extensions(inside: Connection) -> Iterator[Holder]:
    for (name,) in inside.execute("SELECT extname FROM pg_extension ORDER BY extname").fetchall():
        if name in EXTENSIONS:
            blocking, explanation, command = EXTENSIONS[name]
            told = f"In the live database: {command}" if command else ""
            yield Holder("extension", f'"{name}"', blocking, explanation, told)


def _rows(connection: Connection, query: sql.SQL, value: object) -> list[tuple[Any, ...]]:
    return connection.execute(query.format(sql.Literal(value))).fetchall()
