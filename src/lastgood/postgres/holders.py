"""Objects that depend on a database, beyond its sessions: bound to its OID, or restarted automatically."""

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
    """One object that depends on the live database.

    ``blocking``: the swap fails or loses something unless the object is removed or the loss accepted; others are only
    reported. ``what`` names it. ``explanation`` is a sentence on the consequence. ``command`` is the remedy, empty
    where none is needed; it names the database when that is not the maintenance database. ``fatal``: accepting it does
    not help, since the run would fail."""

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
        "Its jobs are restored to the restore point and run again; its scheduler stops at the switch and starts again"
        " with the server.",
        "SELECT jobid, schedule, command, database, active FROM cron.job",
    ),
    "timescaledb": (
        True,
        "Its background workers restart automatically, and a restore needs timescaledb_pre_restore() before and"
        " timescaledb_post_restore() after it.",
        "SELECT _timescaledb_functions.stop_background_workers()",
    ),
    "pglogical": (True, "Its workers and slots are bound to the old database.", "SELECT * FROM pglogical.node"),
    "pg_net": (
        False,
        "Its worker may not respond to the server; then DROP DATABASE of the kept database hangs until it ends.",
        "SELECT net.worker_restart()",
    ),
    "powa": (False, "Its worker may block DROP DATABASE of the kept database.", ""),
    "pgautofailover": (False, "Its worker may block DROP DATABASE of the kept database.", ""),
}


def holders(connection: Connection, live: str, inside: Connection | None = None) -> list[Holder]:
    """The holders of the database ``live``, read from its maintenance database.

    ``inside`` is a connection to the live database itself: publications and extensions are visible only there. Both
    need autocommit, or a transaction that has not failed. Raises Refused when there is no such database.
    """
    oid = database.describe(connection, live).oid
    all_holders = [
        *_prepared(connection, live),
        *_slots(connection, live),
        *_subscriptions(connection, oid),
        *_processes(connection, oid),
        *_standbys(connection),
    ]
    if inside is not None:
        subscribed = any(holder.kind == "logical replication slot" for holder in all_holders)
        all_holders += [*_publications(inside, subscribed), *_extensions(inside)]
    return all_holders


def _prepared(connection: Connection, live: str) -> Iterator[Holder]:
    query = sql.SQL("SELECT gid, owner, prepared FROM pg_prepared_xacts WHERE database = {} ORDER BY prepared")
    for gid, owner, prepared in _rows(connection, query, live):
        quoted = sql.Literal(gid).as_string(connection)
        yield Holder(
            "prepared transaction",
            f'"{gid}" of "{owner}", prepared {prepared.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC',
            True,
            "The database cannot be renamed before it is finished, which is possible only in that database.",
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
            "It remains with the old database: its consumers fail under the live name, and it retains WAL. They need a"
            " new snapshot in any case, since the data goes back in time.",
            "When its consumer is stopped, run: SELECT pg_drop_replication_slot("
            f"{sql.Literal(name).as_string(connection)})",
        )


def _subscriptions(connection: Connection, oid: int) -> Iterator[Holder]:
    # Only subconninfo, which has passwords, is reserved for superusers.
    query = sql.SQL("SELECT subname, subenabled, subslotname FROM pg_subscription WHERE subdbid = {} ORDER BY subname")
    try:
        with connection.transaction():
            rows = _rows(connection, query, oid)
    except psycopg.errors.InsufficientPrivilege:
        yield Holder(
            "subscription",
            "unknown",
            False,
            "This role has no privilege to read whether the database has subscriptions.",
            "As a superuser: SELECT subname FROM pg_subscription",
        )
        return
    for name, enabled, slot in rows:
        quoted = sql.Identifier(name).as_string(connection)
        state = "enabled" if enabled else "disabled"
        explanation = "It remains with the old database and still updates it; the restored database receives nothing."
        command = f"In the live database: ALTER SUBSCRIPTION {quoted} DISABLE"
        if not enabled:
            explanation = (
                "It remains with the old database; even if it is enabled, the restored database receives nothing."
            )
            command = "To carry it over, create it again in the restored database after the switchover"
            if not slot:
                command += f", and drop it here now: DROP SUBSCRIPTION {quoted}"
        yield Holder(
            "subscription",
            f'"{name}" ({state}' + (f', slot "{slot}" on the publisher)' if slot else ", no slot)"),
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
            "It is terminated for the switchover; if it is restarted, it works in the restored database.",
            "",
        )


def _standbys(connection: Connection) -> Iterator[Holder]:
    # A logical walsender is connected to the database that it decodes; a physical one to none.
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
            "Sessions that are open on it continue to read the old data after the switchover, until they end.",
            "On the standby, after the switchover: SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()",
        )


def _publications(inside: Connection, subscribed: bool) -> Iterator[Holder]:
    for (name,) in inside.execute("SELECT pubname FROM pg_publication ORDER BY pubname").fetchall():
        yield Holder(
            "publication",
            f'"{name}"',
            subscribed,
            "Its subscribers have rows that the restored database lacks; they need a new initial copy.",
            "On each subscriber, after the switchover: truncate the tables, then create the subscription again with"
            " copy_data = true",
        )


def _extensions(inside: Connection) -> Iterator[Holder]:
    for (name,) in inside.execute("SELECT extname FROM pg_extension ORDER BY extname").fetchall():
        if name in EXTENSIONS:
            blocking, explanation, command = EXTENSIONS[name]
            hint = f"In the live database: {command}" if command else ""
            yield Holder("extension", f'"{name}"', blocking, explanation, hint)


def _rows(connection: Connection, query: sql.SQL, value: object) -> list[tuple[Any, ...]]:
    return connection.execute(query.format(sql.Literal(value))).fetchall()
