"""PgBouncer's admin console: typed verbs, each with a time limit.

The console is no PostgreSQL server: it supports only the simple protocol, no SET of a session's settings, and no
transactions. Facts that shape the callers (PgBouncer 1.12 to 1.24, from its sources and tested on 1.18):

- ``PAUSE db`` takes effect as soon as it is read; its answer comes when no paused database has a busy server connection
  any more, including databases paused by other sessions. Hence SHOW POOLS is used to detect the end of activity.
- A pause outlives the console session that requested it. A second ``PAUSE db`` is no error; a ``RESUME`` of a database
  that is not paused is one.
- ``PAUSE db`` of an unknown name creates an entry from the fallback ``*``, where there is one.
- A server connection that is logging in when PAUSE arrives is closed and counts as a failed login: for the next
  ``server_login_retry`` seconds the pool opens no other and rejects new clients. RECONNECT has the same effect.
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

# The settings that lastgood changes, as command text: the console does not support quoted names of settings.
_SETTINGS: Mapping[str, LiteralString] = {"server_login_retry": "server_login_retry"}


class ConsoleError(Exception):
    """PgBouncer rejected a command, or its console cannot be reached; the text is the reason."""


class ReportRow(dict[str, str | None]):
    """One row of an answer, by the names of its columns. A missing column is a ConsoleError."""

    def __missing__(self, name: str) -> str | None:
        raise ConsoleError(f'its answer has no column "{name}": it may not be PgBouncer 1.12 or newer')


@dataclass(frozen=True, slots=True)
class ConsoleRow:
    """One of PgBouncer's databases. ``host`` is None for the default socket; ``mode`` if it has its own."""

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
    """A connection to PostgreSQL that a client is using, and its server process if PgBouncer knows it."""

    database: str
    user: str
    pid: int | None


class SimpleSession:
    """A connection that uses only the simple protocol, with a time limit for every answer."""

    def __init__(self, keywords: Mapping[str, str], seconds: int = CONNECT_SECONDS) -> None:
        """Connect. Raises ConsoleError."""
        # Set every attribute that libpq would check with a query of its own, so that no environment variable does.
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
        """The connection's host, port and user."""
        return self._connection.info

    def ask(self, command: sql.Composable, seconds: float = ANSWER_SECONDS) -> list[ReportRow]:
        """Send a command and return its rows. Raises ConsoleError."""
        self.send(command)
        if not self.answered(seconds):
            self.close()  # a late answer would be taken for that of the next command
            raise ConsoleError(f"no answer within {seconds:g} s")
        return self._rows()

    def send(self, command: sql.Composable) -> None:
        """Send a command without waiting for its answer. Raises ConsoleError."""
        try:
            self._pgconn.send_query(command.as_bytes(self._connection))
            while self._pgconn.flush():
                select.select([], [self._pgconn.socket], [], ANSWER_SECONDS)
        except psycopg.Error as error:
            raise ConsoleError(_words(error)) from error

    def answered(self, seconds: float) -> bool:
        """Wait up to ``seconds`` for the answer: whether it came. Raises ConsoleError."""
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

    def _rows(self) -> list[ReportRow]:
        rows: list[ReportRow] = []
        failed: str | None = None
        while result := self._pgconn.get_result():
            if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
                message = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message
                failed = message.decode("utf-8", "replace").strip()
            names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
            for row in range(result.ntuples):
                values = [result.get_value(row, column) for column in range(result.nfields)]
                texts = [value.decode("utf-8", "replace") if value is not None else None for value in values]
                rows.append(ReportRow(zip(names, texts, strict=True)))
        if failed is not None:
            raise ConsoleError(failed)
        return rows

    @property
    def _pgconn(self) -> pq.abc.PGconn:
        return self._connection.pgconn

    @property
    def broken(self) -> bool:
        """Whether it was closed by either side."""
        return self._connection.closed or self._connection.broken

    def close(self) -> None:
        """Close the session; databases that it paused remain paused."""
        with suppress(psycopg.Error):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Console(SimpleSession):
    """A session in the admin console. Every verb raises ConsoleError."""

    def __init__(self, target: Target) -> None:
        super().__init__({**target.keywords, "dbname": DATABASE})

    def version(self) -> str:
        """The version, such as ``1.18.0``."""
        rows = self.ask(sql.SQL("SHOW VERSION"))
        return "".join(row["version"] or "" for row in rows).removeprefix("PgBouncer ")

    def settings(self) -> dict[str, str]:
        """SHOW CONFIG: every setting with its value."""
        return {row["key"] or "": row["value"] or "" for row in self.ask(sql.SQL("SHOW CONFIG"))}

    def entries(self) -> list[ConsoleRow]:
        """SHOW DATABASES, without the console's own: not the fallback ``*``, but the entries created from it."""
        return [
            ConsoleRow(
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
        """SHOW POOLS. A database without any use so far has none."""
        return [
            Pool(
                database=row["database"] or "",
                user=row["user"] or "",
                mode=row["pool_mode"] or "",
                clients=int(row["cl_active"] or 0),
                waiting=int(row["cl_waiting"] or 0),
                # Newer versions have more states: sum all columns with this prefix.
                servers=sum(int(value or 0) for name, value in row.items() if name.startswith("sv_")),
                logging_in=int(row["sv_login"] or 0),
            )
            for row in self.ask(sql.SQL("SHOW POOLS"))
        ]

    def busy_servers(self) -> list[BusyServer]:
        """SHOW SERVERS: those that a client is using."""
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
        """Change a setting until PgBouncer reads its file again."""
        self.ask(sql.SQL("SET {} = {}").format(sql.SQL(_SETTINGS[name]), sql.Literal(value)))

    def pause(self, name: str) -> None:
        """Send PAUSE without waiting: ``paused`` shows that it was read, ``pools`` that activity has ended."""
        self.send(sql.SQL("PAUSE {}").format(sql.Identifier(name)))
        if self.answered(0.02):
            self._rows()

    def resume(self, name: str) -> None:
        """Resume the clients of a database."""
        self.ask(sql.SQL("RESUME {}").format(sql.Identifier(name)))

    def reconnect(self, name: str) -> None:
        """Close the server connections of a database as soon as their clients release them. Never after RESUME: it
        would close a connection that is logging in."""
        self.ask(sql.SQL("RECONNECT {}").format(sql.Identifier(name)))


def _words(error: psycopg.Error) -> str:
    """The last line of libpq's message, without the address, which our messages name, and without the hint."""
    lines = [line for line in str(error).strip().splitlines() if line.strip() and not line.startswith("\t")]
    last = (lines[-1] if lines else type(error).__name__).strip()
    return _WHERE.sub("", last).strip()
