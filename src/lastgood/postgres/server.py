"""Connections to a server: their parameters, their cancellation and the identity of the cluster behind them.

libpq decides on server and role; lastgood passes the result to sessions and child programs.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, LiteralString

import psycopg
from psycopg import conninfo, pq, sql
from psycopg.abc import Params
from psycopg.rows import TupleRow

from lastgood.text.address import as_libpq

Connection = psycopg.Connection[TupleRow]
Statement = LiteralString | bytes | sql.SQL | sql.Composed


def only_row(connection: Connection, query: Statement, parameters: Params | None = None) -> TupleRow:
    """Return the row of a query that always gives one: a SELECT without FROM, or an aggregate. Raises psycopg.Error."""
    row = connection.execute(query, parameters).fetchone()
    assert row is not None
    return row


SECRETS = frozenset({"password", "sslpassword", "scram_client_key", "scram_server_key", "oauth_client_secret"})

# Settings of a role or a database apply to every new session (a statement_timeout, say); ours must not be aborted.
SESSION: tuple[tuple[str, str], ...] = (
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("transaction_timeout", "0"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_isolation", "read committed"),
    ("default_transaction_deferrable", "off"),
    ("client_connection_check_interval", "2s"),
    # A client that vanished silently (a power cut, a dead link) must not hold its locks for hours.
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
    ("lc_messages", "C"),
    ("synchronous_commit", "local"),
    ("session_replication_role", "origin"),
    ("search_path", ""),
    # As pg_settings spells them. psycopg supports only this style of dates.
    ("DateStyle", "ISO, YMD"),
    ("IntervalStyle", "postgres"),
    ("standard_conforming_strings", "on"),
    # They change what the server reads and writes: names of objects, NULL in arrays, rows found through GIN indexes.
    ("quote_all_identifiers", "off"),
    ("array_nulls", "on"),
    ("bytea_output", "hex"),
    ("gin_fuzzy_search_limit", "0"),
    ("jit", "off"),
)


# That of a database or a role may lead to operators, functions and types of others.
_NO_PATH = "SET search_path = ''"

_SET = """
SELECT pg_catalog.set_config(s.name, w.value, %s) FROM pg_catalog.pg_settings s
JOIN unnest(%s::text[], %s::text[]) w (name, value) USING (name)
WHERE s.context = 'user' OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
"""


def set_where_possible(connection: Connection, settings: Sequence[tuple[str, str]], *, local: bool = False) -> None:
    """Apply the settings that the server knows and the role may set, and skip the rest. Needs autocommit; or, with
    ``local``, a transaction: then they last until its end."""

    def apply(some: Sequence[tuple[str, str]]) -> None:
        with connection.transaction() if local else nullcontext():
            connection.execute(_SET, [local, [name for name, _ in some], [value for _, value in some]])

    try:
        apply(settings)
    except psycopg.errors.InvalidParameterValue:
        # Some platforms know a setting but do not support it (client_connection_check_interval): apply each by itself.
        for each in settings:
            with suppress(psycopg.errors.InvalidParameterValue):
                apply([each])


# Settings of SESSION that only superusers may set, and those that the oldest supported server lacks.
SUPERUSERS_ONLY = frozenset({"lc_messages", "session_replication_role"})
SINCE = {"transaction_timeout": 170000}


@lru_cache
def _session_query(superuser: bool, version: int) -> bytes:
    calls = [
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
        for name, value in SESSION
        if version >= SINCE.get(name, 0) and (superuser or name not in SUPERUSERS_ONLY)
    ]
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)).as_bytes()


def _set_session(connection: Connection) -> None:
    """Apply SESSION without a catalogue query, which would be the most expensive part of opening a session."""
    superuser = connection.info.parameter_status("is_superuser") == "on"
    try:
        connection.execute(_session_query(superuser, connection.info.server_version))
    except psycopg.DatabaseError:
        if connection.closed:
            raise
        connection.execute(_NO_PATH)
        set_where_possible(connection, SESSION)  # a server that is not fully PostgreSQL


# By server and role: whether sessions can have event triggers off, as far as this process knows.
_QUIET: dict[tuple[str, ...], bool] = {}
# A pooler may refuse the option, and a server after the role has lost its privileges.
_OPTION_REFUSED = re.compile("event_triggers|startup parameter|options")
NO_EVENT_TRIGGERS = "-c event_triggers=off"
# The maintenance databases.
_ALWAYS_OPEN = ("postgres", "template1")
# A database of lastgood has a mark; any other comment need not be JSON.
_CLOSED = """
SELECT CASE WHEN ours THEN mark ->> 'role' ELSE '' END, CASE WHEN ours THEN mark ->> 'live' ELSE '' END
FROM (SELECT pg_catalog.shobj_description(oid, 'pg_database') AS comment FROM pg_catalog.pg_database
      WHERE datname = %s AND NOT datallowconn) d
CROSS JOIN LATERAL (SELECT comment LIKE '{"tool":"lastgood"%%' AS ours) o
CROSS JOIN LATERAL (SELECT CASE WHEN ours THEN comment::jsonb END AS mark) m
"""


class ClosedDatabase(psycopg.OperationalError):
    """A database that is closed to connections. ``role`` and ``live``: those of its mark, if it is one of lastgood."""

    def __init__(self, text: str, name: str, role: str, live: str) -> None:
        super().__init__(text)
        self.name = name
        self.role = role
        self.live = live


@dataclass(frozen=True, slots=True)
class Target:
    """One database of one server, as libpq keywords; libpq adds the rest (environment, service, .pgpass).

    ``original``: the user's own keywords, if this is another database of that server. A line of .pgpass may name only
    the user's database, but its password is the role's and valid for the others too.
    ``repr`` and ``str`` never show a secret.
    """

    keywords: Mapping[str, str] = field(repr=False)
    original: Mapping[str, str] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> Target:
        """A URL or a ``key=value`` string; empty means libpq's own defaults. Raises psycopg.ProgrammingError."""
        keywords = conninfo.conninfo_to_dict(as_libpq(text))
        return cls({key: str(value) for key, value in keywords.items() if value is not None})

    @property
    def dbname(self) -> str:
        """The database that libpq would connect to. If only a connection shows it: raises OSError, psycopg.Error."""
        if self.keywords.get("dbname"):
            return self.keywords["dbname"]
        # No connection is needed for the name: the database may be full, or have a login trigger that fails.
        if not self.keywords.get("service") and (default := _default("dbname")):
            return default
        with self.connect() as connection:
            return connection.info.dbname

    @property
    def place(self) -> str:
        """The server as a connection string; empty where libpq decides."""
        return str(Target({k: v for k, v in self.keywords.items() if k in ("host", "port", "service")}))

    def at(self, dbname: str) -> Target:
        """The same server and role, another database."""
        return Target({**self.keywords, "dbname": dbname}, self.original or self.keywords)

    @property
    def quiet(self) -> Target:
        """This target, without event triggers if its server is known to allow that: for child programs."""
        return self.without_event_triggers() if _QUIET.get(self._server) else self

    @property
    def _server(self) -> tuple[str, ...]:
        return tuple(self.keywords.get(each, "") for each in ("service", "host", "hostaddr", "port", "user"))

    def _may_be_quiet(self) -> bool:
        """Whether sessions of this role can have event triggers off: a trigger ON login would run code of the database
        with the role's rights. The maintenance database shows it, where only superusers can make one."""
        if self._server not in _QUIET and self.keywords.get("dbname") not in _ALWAYS_OPEN:
            with suppress(psycopg.Error):
                # Short, because another attempt follows.
                maintenance = self.at(_ALWAYS_OPEN[0])
                Target.connect_unchanged(
                    Target({**maintenance.keywords, "connect_timeout": "3"}, maintenance.original)
                ).close()
            _QUIET.setdefault(self._server, False)
        return _QUIET.get(self._server, False)

    def without_event_triggers(self) -> Target:
        """The same target, with sessions in which no event trigger fires: for superusers on 17 and newer, whose login a
        trigger ON login might otherwise prevent."""
        quiet = NO_EVENT_TRIGGERS in self.keywords.get("options", "")
        return self if quiet else self.with_settings({"event_triggers": "off"})

    def with_settings(self, settings: Mapping[str, str]) -> Target:
        """The same target, with these settings at the start of each session. A pooler may refuse any."""
        if not settings:
            return self
        # An explicit option replaces those of the environment and of a service file.
        given = self.keywords.get("options") or _libpq_options(self.keywords)
        options = [given, *(f"-c {name}={value}" for name, value in settings.items())]
        return Target({**self.keywords, "options": " ".join(options).strip()}, self.original)

    def connect(self, *, autocommit: bool = True, application_name: str = "lastgood") -> Connection:
        """A connection with our session settings, except those that the server does not know or allow.

        Raises psycopg.OperationalError.
        """
        connection = self.connect_unchanged(application_name=application_name)
        try:
            # Alone and first: a limit of the database or of the role could abort the next statements.
            connection.execute("SET statement_timeout = 0")
            if connection.info.server_version >= 170000:
                connection.execute("SET transaction_timeout = 0")
            _set_session(connection)
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_unchanged(self, *, application_name: str = "lastgood") -> Connection:
        """A connection in autocommit mode without our settings: for work that sets what it needs in a transaction.
        Behind a pooler, a setting outside of a transaction remains in a session that the application uses next.

        Raises psycopg.OperationalError.
        """
        keywords: dict[str, Any] = {
            "connect_timeout": "10",
            **self.keywords,
            "application_name": application_name[:63],
            "client_encoding": "UTF8",
        }
        try:
            return self._open(keywords)
        except psycopg.OperationalError as error:
            needed = error.pgconn is not None and error.pgconn.needs_password
            password = self._password_of_named() if needed else ""
            if not password:
                raise self._closed(error) or self._unanswered(error) or error from None
        try:
            return self._open({**keywords, "password": password})
        except psycopg.OperationalError as error:
            raise self._closed(error) or error from None

    def _open(self, keywords: dict[str, Any]) -> Connection:
        if self._may_be_quiet():
            options = self.without_event_triggers().keywords["options"]
            try:
                return psycopg.connect(**{**keywords, "options": options}, autocommit=True)
            except psycopg.OperationalError as error:
                if _OPTION_REFUSED.search(str(error)) is None:
                    raise
                _QUIET[self._server] = False
        connection = psycopg.connect(**keywords, autocommit=True)
        superuser = connection.info.parameter_status("is_superuser") == "on"
        _QUIET.setdefault(self._server, superuser and connection.info.server_version >= 170000)
        return connection

    def _closed(self, error: psycopg.OperationalError) -> ClosedDatabase | None:
        """The ClosedDatabase for an error, if the database is closed to connections: a failed login has no SQLSTATE,
        and its message is in the server's language."""
        name = self.keywords.get("dbname", "")
        if not name or name in _ALWAYS_OPEN or name not in str(error):
            return None
        with suppress(psycopg.Error), Target.connect_unchanged(self.at(_ALWAYS_OPEN[0])) as connection:
            connection.execute(_NO_PATH)
            row = connection.execute(_CLOSED, [name]).fetchone()
            if row is not None:
                return ClosedDatabase(str(error), name, *row)
        return None

    def _unanswered(self, error: psycopg.OperationalError) -> psycopg.errors.ConnectionTimeout | None:
        """A timeout with the address in it, as libpq words it; psycopg's own lacks that of a single server."""
        host, port = (self.keywords.get(each) or _default(each) for each in ("host", "port"))
        if not isinstance(error, psycopg.errors.ConnectionTimeout) or not host or "," in host:
            return None
        text = f'connection to server at "{host}", port {port} failed: timeout expired'
        return psycopg.errors.ConnectionTimeout(text)

    def _password_of_named(self) -> str:
        """The password that libpq finds for the user's original database; empty where that is this one."""
        if self.original is None or self.original.get("dbname") == self.keywords.get("dbname"):
            return ""
        return _libpq_password({**self.keywords, "dbname": self.original.get("dbname", "")})

    def child(self, dbname: str | None = None) -> tuple[str, dict[str, str]]:
        """The connection of a client program: a connection string without secrets for ``--dbname``, and an
        environment."""
        keywords = {**self.keywords, **({"dbname": dbname} if dbname is not None else {})}
        password = keywords.get("password", "")
        if not password and self.original is not None and not _libpq_password(keywords):
            password = self._password_of_named()
        environment = {"PGPASSWORD": password} if password else {}
        public = {key: value for key, value in keywords.items() if key not in SECRETS}
        return conninfo.make_conninfo("", **public), environment

    def __str__(self) -> str:
        return conninfo.make_conninfo("", **{k: v for k, v in self.keywords.items() if k not in SECRETS})


def _default(keyword: str) -> str:
    """What libpq uses where the keyword is not given: from the environment, or its own."""
    found = (each.val for each in pq.Conninfo.get_defaults() if each.keyword == keyword.encode())
    return (next(found, None) or b"").decode()


def _libpq_password(keywords: Mapping[str, str]) -> str:
    """The password that libpq uses for these keywords: from the environment, a service file or .pgpass. libpq itself
    applies its rules; nothing is sent to the server."""
    present = {key: value for key, value in keywords.items() if value}
    started = pq.PGconn.connect_start(conninfo.make_conninfo("", **present).encode())
    try:
        return (started.password or b"").decode("utf-8", "surrogateescape")
    finally:
        started.finish()


def _libpq_options(keywords: Mapping[str, str]) -> str:
    """The options that libpq uses for these keywords, from the environment or a service file."""
    if not keywords.get("service") and not os.environ.get("PGSERVICE"):
        return os.environ.get("PGOPTIONS", "")
    started = pq.PGconn.connect_start(conninfo.make_conninfo("", **keywords).encode())
    try:
        return started.options.decode()
    finally:
        started.finish()


# The first minor releases that know the setting. Older ones look the name up again without protection.
_RESTRICTS = (range(150008, 160000), range(160004, 170000))


def read_tables_only(connection: Connection, *, local: bool = False) -> None:
    """Let the session, or with ``local`` its transaction, read no view and no foreign table but the server's own. While
    a query waits for a lock, the owner of a table or a sequence can replace it by a view, whose functions would run
    with the rights of this session (CVE-2024-7348)."""
    version = connection.info.server_version
    if version >= 170000 or any(version in each for each in _RESTRICTS):
        value = "view, foreign-table"
        connection.execute("SELECT pg_catalog.set_config('restrict_nonsystem_relation_kind', %s, %s)", [value, local])


def quiet_event_triggers(connection: Connection) -> None:
    """Disable event triggers in this session: one that forbids DDL must not stop our work, and a platform's reloads its
    schema cache after each command. A superuser may do so, and a role with SET on session_replication_role, as hosted
    platforms grant it: ordinary triggers and foreign-key checks are off then, too. For other roles they fire, as for
    any owner's DDL."""
    settings = ("event_triggers = off", "session_replication_role = replica")
    alone = connection.autocommit and connection.info.transaction_status is pq.TransactionStatus.IDLE
    for setting in settings if connection.info.server_version >= 170000 else settings[1:]:
        with suppress(psycopg.errors.InsufficientPrivilege), nullcontext() if alone else connection.transaction():
            connection.execute(sql.SQL("SET {}").format(sql.SQL(setting)))
            return


_ROLE_BACK = """
SELECT pg_catalog.set_config(name, %(before)s, false) FROM pg_catalog.pg_settings
WHERE name = 'session_replication_role' AND setting <> %(before)s
"""


@contextmanager
def event_triggers_off(connection: Connection) -> Iterator[None]:
    """Disable event triggers for the length of a block, as ``quiet_event_triggers`` does. The connection must be in
    autocommit mode."""
    row = connection.execute("SHOW session_replication_role").fetchone()
    assert row is not None
    quiet_event_triggers(connection)
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute(_ROLE_BACK, {"before": row[0]})


@contextmanager
def cancelled_with(stop: threading.Event, target: Target, name: str) -> Iterator[Connection]:
    """A session whose running statement is cancelled when the event is set."""
    ended = threading.Event()
    with target.connect(application_name=name) as connection:

        def wait() -> None:
            while not ended.wait(0.1):
                if stop.is_set():
                    with suppress(psycopg.Error):  # the statement may just have ended
                        connection.cancel_safe(timeout=5)

        thread = threading.Thread(target=wait, name="lastgood-cancel", daemon=True)
        thread.start()
        try:
            yield connection
        finally:
            ended.set()
            thread.join()


@dataclass(frozen=True, slots=True)
class Identity:
    """``system`` is created by initdb and copied by every physical backup; None without the privilege to read it.
    ``started`` is the start of the server, to the microsecond."""

    system: int | None
    started: datetime


def identity(connection: Connection) -> Identity:
    """The identity of the server behind ``connection`` (autocommit)."""
    row = only_row(connection, "SELECT pg_catalog.pg_postmaster_start_time()")
    try:
        control = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        control = None  # some platforms revoke it
    return Identity(control[0] if control is not None else None, row[0])


def same_cluster(one: Identity, other: Identity) -> bool:
    """Whether they are one cluster, or physical copies of one. Unrelated servers do not start in the same
    microsecond."""
    return one.started == other.started or (one.system is not None and one.system == other.system)
