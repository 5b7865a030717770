"""The databases of each PgBouncer that lead to the live database, and their state. Changes nothing."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from psycopg import sql

from lastgood.postgres.pgbouncer.console import DATABASE, Console, ConsoleError, ConsoleRow, Pool, SimpleSession
from lastgood.postgres.server import Connection, Target, only_row

if TYPE_CHECKING:  # the dead-man switch starts sooner without it
    from lastgood.config.tables import PgBouncer

# Identifies a server and a database on it: a standby or a copy has another start or another OID. Any role may run it.
_IDENTITY = sql.SQL(
    "SELECT extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text AS started,"
    " (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = {}) AS oid"
)
THROUGH_SECONDS = 2


@dataclass(frozen=True, slots=True)
class PooledDatabase:
    """An entry that leads to the live database. ``mode`` is that of its pools (session if any of them has it);
    ``known_by``: the configuration names it, its address is the live database's, or a query through it proved it."""

    name: str
    mode: str
    paused: bool
    clients: int
    waiting: int
    known_by: Literal["name", "address", "answer"]


@dataclass(frozen=True, slots=True)
class ConsoleState:
    """The present state of one PgBouncer. ``shown`` is the connection string of its console, without a secret.

    ``problem`` is the reason if it cannot be used; then all else is empty. ``doubtful`` are entries that may lead to
    the live database, each with the reason why that is unknown; ``missing`` are configured names that do not exist."""

    target: Target = field(repr=False)
    shown: str
    problem: str = ""
    version: str = ""
    user: str = ""
    may_pause: bool = False
    databases: tuple[PooledDatabase, ...] = ()
    doubtful: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def place(self) -> str:
        """A short name for messages."""
        host = self.target.keywords.get("host") or self.target.keywords.get("hostaddr")
        where = ":".join(filter(None, [host, self.target.keywords.get("port")]))
        return f"PgBouncer at {where}" if where else "PgBouncer"


def consoles(config: PgBouncer, live: Target, connection: Connection) -> tuple[ConsoleState, ...]:
    """Every PgBouncer that ``config`` names, in its order. ``live`` has the live database, and the role for a query to
    it through PgBouncer; ``connection`` is any session on its server."""
    return tuple(_state(Target.parse(text).at(DATABASE), config, live, connection) for text in config.admin)


def _state(target: Target, config: PgBouncer, live: Target, connection: Connection) -> ConsoleState:
    shown = str(target)
    try:
        with Console(target) as console:
            settings, entries, pools = console.settings(), console.entries(), console.pools()
            databases, doubtful = [], []
            configured = [each for each in entries if each.name in config.databases]
            for entry in configured:
                databases.append(_pooled_database(entry, pools, settings, "name"))
            for entry in entries if not config.databases else ():
                if entry.database != live.dbname:
                    continue
                try:
                    known_by = _leads_here(entry, console, target, live, connection)
                except ConsoleError as error:
                    doubtful.append((entry.name, str(error)))
                else:
                    if known_by is not None:
                        databases.append(_pooled_database(entry, pools, settings, known_by))
            return ConsoleState(
                target=target,
                shown=shown,
                version=console.version(),
                user=console.info.user,
                may_pause=_may_pause(console.info.user, settings),
                databases=tuple(databases),
                doubtful=tuple(doubtful),
                missing=tuple(name for name in config.databases if name not in {each.name for each in configured}),
                settings=settings,
            )
    except ConsoleError as error:
        return ConsoleState(target=target, shown=shown, problem=str(error))


def _may_pause(user: str, settings: Mapping[str, str]) -> bool:
    admins = {name.strip() for name in settings.get("admin_users", "").split(",")}
    # The user "pgbouncer" can log in only through the Unix socket, as the system user of PgBouncer.
    return user in admins or user == DATABASE


def _pooled_database(
    entry: ConsoleRow, pools: list[Pool], settings: Mapping[str, str], known_by: Literal["name", "address", "answer"]
) -> PooledDatabase:
    own = [pool for pool in pools if pool.database == entry.name]
    modes = {pool.mode for pool in own} or {entry.mode or settings.get("pool_mode", "")}
    return PooledDatabase(
        name=entry.name,
        mode=next((mode for mode in ("session", "transaction", "statement") if mode in modes), ""),
        paused=entry.paused,
        clients=sum(pool.clients + pool.waiting for pool in own),
        waiting=sum(pool.waiting for pool in own),
        known_by=known_by,
    )


def _leads_here(
    entry: ConsoleRow, console: Console, target: Target, live: Target, connection: Connection
) -> Literal["address", "answer"] | None:
    """The evidence that an entry with the live database's name leads to it; None when it leads elsewhere. Raises
    ConsoleError when that cannot be determined."""
    session = connection.info
    if entry.port == session.port and same_host(
        entry.host, session.host, session.hostaddr, here=is_local(console.info.host)
    ):
        return "address"
    if entry.paused:
        raise ConsoleError("it is paused, so it cannot be queried")
    keywords = {key: value for key, value in target.keywords.items() if key not in ("user", "password", "passfile")}
    for key in ("user", "password", "passfile"):
        if live.keywords.get(key):
            keywords[key] = live.keywords[key]
    with SimpleSession({**keywords, "dbname": entry.name}, THROUGH_SECONDS) as through:
        (answer,) = through.ask(_IDENTITY.format(sql.SQL("current_database()")), THROUGH_SECONDS)
    row = only_row(connection, _IDENTITY.format(sql.Literal(live.dbname)))
    return "answer" if (answer["started"], answer["oid"]) == (row[0], row[1]) else None


def is_local(host: str | None) -> bool:
    """Whether a host means the same machine: a Unix socket or the loopback."""
    return not host or host.startswith(("/", "@", "127.")) or host in ("localhost", "::1")


def same_host(host: str | None, our_host: str, our_address: str, *, here: bool) -> bool:
    """Whether an entry's host is certainly that of our own session. A host local to PgBouncer is local to us only if
    PgBouncer is ``here``, on our machine."""
    if not is_local(host):
        return host in (our_host, our_address)
    if not here or not host or not is_local(our_host):
        return False
    if host.startswith("/") or our_host.startswith("/"):
        return os.path.realpath(host) == os.path.realpath(our_host)
    return not our_host.startswith("@") and not host.startswith("@")


def psql(state: ConsoleState, command: str) -> str:
    """The command line that gives a command to a console."""
    return f"psql {shlex.quote(state.shown)} -c {shlex.quote(command)}"
