"""PgBouncer's admin console: typed verbs, each with a time limit.

The console is no PostgreSQL server: it knows the simple protocol alone, no SET of a session's settings, no
transactions. Facts about it that shape the callers (PgBouncer 1.12 to 1.24, from its sources and tried on 1.18):

- ``PAUSE db`` holds from the moment it is read; its answer comes when no paused database has a busy server connection
  any more, somebody else's paused databases included. Hence quiet is read off SHOW POOLS instead.
- A pause outlives the console session that asked for it. A second ``PAUSE db`` is no error; a ``RESUME`` of what is
  not paused is one.
- ``PAUSE db`` of a name that is unknown makes an entry of the fallback ``*``, where there is one.
- A server connection that is logging in when PAUSE comes is closed and counts as a failed login: for the next
  ``server_login_retry`` seconds the pool opens no other and turns new clients away. RECONNECT does the same to it.
"""

from __future__ import annotations

import re
import select
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, LiteralString, Self

import psycopg
from psycopg import pq, sql
from psycopg.pq import ExecStatus

from lastgood.postgres.server import Target

DATABASE = "pgbouncer"
CONNECT_SECONDS = 5
ANSWER_SECONDS = 5.0

_WHERE = re.compile(r"^(connection (failed|is bad): )?(connection to server (at|on) .*? failed: )?((FATAL|ERROR):)?")

# The settings that we change, as they are written in a command: the console quotes no names of settings.
_SETTINGS: Mapping[str, LiteralString] = {"server_login_retry": "server_login_retry"}


class ConsoleError(Exception):
    """What PgBouncer answered instead of doing it, or why it can't be asked."""


class Row(dict[str, str | None]):
    """One row, by the names of its columns. One that is not there is an error of the console, not of ours."""

    def __missing__(self, name: str) -> str | None:
        raise ConsoleError(f'it shows no "{name}": is it a PgBouncer, 1.12 or newer?')


@dataclass(frozen=True, slots=True)
class Entry:
    """One of PgBouncer's databases. ``host`` is None for the default socket; ``mode`` where it has one of its own."""

    name: str
    host: str | None
    port: int
    database: str
    mode: str | None
    paused: bool


@dataclass(frozen=True, slots=True)
class Pool:
    """The connections of one user to one of PgBouncer's databases. ``servers`` counts those to PostgreSQL in any
    state, ``logging_in`` those that are not ready yet."""

    database: str
    user: str
    mode: str
    clients: int
    waiting: int
    servers: int
    logging_in: int


@dataclass(frozen=True, slots=True)
class BusyServer:
    """A connection to PostgreSQL that a client has now, and its server process where PgBouncer knows it."""

    database: str
    user: str
    pid: int | None


class SimpleSession:
    """A connection that uses nothing but the simple protocol, and waits for no answer longer than it is told."""

    def __init__(self, keywords: Mapping[str, str], seconds: int = CONNECT_SECONDS) -> None:
        """Raises ConsoleError."""
        # Each attribute that libpq would check with a query of its own is given, so that no variable sets it.
        options: dict[str, Any] = {
            "connect_timeout": str(seconds),
            **keywords,
            "application_name": "lastgood",
            "target_session_attrs": "any",
        }
        try:
            self._connection = psycopg.connect(**options, autocommit=True, prepare_threshold=None)
        except psycopg.Error as error:
            raise ConsoleError(_words(error)) from error

    @property
    def info(self) -> psycopg.ConnectionInfo:
        """Where it is connected to."""
        return self._connection.info

    def ask(self, command: sql.Composable, seconds: float = ANSWER_SECONDS) -> list[Row]:
        """Sends a command and returns its rows. Raises ConsoleError."""
        self.send(command)
        if not self.answered(seconds):
            self.close()  # an answer that comes later would be taken for that of the next command
            raise ConsoleError(f"no answer within {seconds:g} s")
        return self._rows()

    def send(self, command: sql.Composable) -> None:
        """Sends a command and does not wait for it. Raises ConsoleError."""
        try:
            self._pgconn.send_query(command.as_bytes(self._connection))
            while self._pgconn.flush():
                select.select([], [self._pgconn.socket], [], ANSWER_SECONDS)
        except psycopg.Error as error:
            raise ConsoleError(_words(error)) from error

    def answered(self, seconds: float) -> bool:
        """Waits for the answer to come, as long as that. Raises ConsoleError."""
        deadline = time.monotonic() + seconds
        try:
            while True:
                self._pgconn.consume_input()
                if not self._pgconn.is_busy():
                    return True
                poll = select.poll()
                poll.register(self._pgconn.socket, select.POLLIN)
                if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                    return False
        except psycopg.Error as error:
            raise ConsoleError(_words(error)) from error

    def _rows(self) -> list[Row]:
        rows: list[Row] = []
        failed: str | None = None
        while result := self._pgconn.get_result():
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
                said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
                failed = said.decode("utf-8", "replace").strip()
            names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
            for row in range(result.ntuples):
                values = [result.get_value(row, column) for column in range(result.nfields)]
                texts = [value.decode("utf-8", "replace") if value is not None else None for value in values]
                rows.append(Row(zip(names, texts, strict=True)))
        if failed is not None:
            raise ConsoleError(failed)
        return rows

    @property
    def _pgconn(self) -> pq.abc.PGconn:
        return self._connection.pgconn

    @property
    def broken(self) -> bool:
        """Whether it was closed, by us or by the other side."""
        return self._connection.closed or self._connection.broken

    def close(self) -> None:
        """Ends the session; what it paused stays paused."""
        with suppress(psycopg.Error):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Console(SimpleSession):
    """A session at the admin console. Every verb raises ConsoleError."""

    def __init__(self, target: Target) -> None:
        super().__init__({**target.keywords, "dbname": DATABASE})

    def version(self) -> str:
        """Such as ``1.18.0``."""
        said = [row["version"] or "" for row in self.ask(sql.SQL("SHOW VERSION"))]
        return "".join(said).removeprefix("PgBouncer ")

    def settings(self) -> dict[str, str]:
        """SHOW CONFIG: every setting with its value."""
        return {row["key"] or "": row["value"] or "" for row in self.ask(sql.SQL("SHOW CONFIG"))}

    def entries(self) -> list[Entry]:
        """SHOW DATABASES, without the console's own. The fallback ``*`` is not among them, what was made of it is."""
        return [
            Entry(
                name=row["name"] or "",
                host=row["host"],
                port=int(row["port"] or 0),
                database=row["database"] or "",
                mode=row["pool_mode"],
                paused=row["paused"] == "1",
            )
            for row in self.ask(sql.SQL("SHOW DATABASES"))
            if row["name"] != DATABASE
        ]

    def pools(self) -> list[Pool]:
        """SHOW POOLS. A database that nobody has used has none."""
        return [
            Pool(
                database=row["database"] or "",
                user=row["user"] or "",
                mode=row["pool_mode"] or "",
                clients=int(row["cl_active"] or 0),
                waiting=int(row["cl_waiting"] or 0),
                # The states have become more over time: all columns whose names begin so.
                servers=sum(int(value or 0) for name, value in row.items() if name.startswith("sv_")),
                logging_in=int(row["sv_login"] or 0),
            )
            for row in self.ask(sql.SQL("SHOW POOLS"))
        ]

    def busy_servers(self) -> list[BusyServer]:
        """SHOW SERVERS: those that a client has now."""
        return [
            BusyServer(
                database=row["database"] or "",
                user=row["user"] or "",
                pid=int(row["remote_pid"] or 0) or None,
            )
            for row in self.ask(sql.SQL("SHOW SERVERS"))
            if row["link"]
        ]

    def set(self, name: str, value: str) -> None:
        """Changes a setting until PgBouncer reads its file again."""
        self.ask(sql.SQL("SET {} = {}").format(sql.SQL(_SETTINGS[name]), sql.Literal(value)))

    def pause(self, name: str) -> None:
        """Sends PAUSE and does not wait: ``paused`` tells whether it was read, ``pools`` whether it is quiet."""
        self.send(sql.SQL("PAUSE {}").format(sql.Identifier(name)))
        if self.answered(0.02):
            self._rows()

    def resume(self, name: str) -> None:
        """Lets the clients of a database go on."""
        self.ask(sql.SQL("RESUME {}").format(sql.Identifier(name)))

    def reconnect(self, name: str) -> None:
        """Has the server connections of a database closed as soon as their clients give them back. Never after RESUME:
        it would meet the first login."""
        self.ask(sql.SQL("RECONNECT {}").format(sql.Identifier(name)))


def _words(error: psycopg.Error) -> str:
    """The last thing that libpq says: without the address, which our messages name, and without the advice."""
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith("\t")]
    said = (lines[-1] if lines else type(error).__name__).strip()
    return _WHERE.sub("", said).strip()
