"""The hint for each cause of a connection that could not be made.

The messages are those of servers, poolers and other programs: a socket sends them, and libpq words the error.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress

import psycopg
import pytest

from lastgood.postgres import unreachable
from lastgood.postgres.server import Target


class Answering:
    """A program that sends the same bytes to each client, and hangs up."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.port: int = listening.getsockname()[1]
        self.answer = b""
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):  # the end of the test closes the socket
            while True:
                client, _ = self._listening.accept()
                with client, suppress(OSError):
                    client.recv(1024)
                    client.sendall(self.answer)


@pytest.fixture(scope="module")
def program() -> Iterator[Answering]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield Answering(listening)
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def fatal(message: str) -> bytes:
    """An ErrorResponse of the server (protocol 3.0), without an SQLSTATE that could matter."""
    fields = b"SFATAL\0VFATAL\0C08004\0M" + message.encode() + b"\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


def hint(text: str) -> str | None:
    with pytest.raises(psycopg.OperationalError) as caught:
        Target.parse(text).connect_unchanged()
    return unreachable.hint(caught.value)


FULL = (
    "Free a connection: stop a part of the application, or connect as a superuser, for whom some are reserved. "
    "To see who holds them: SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2"
)
READY = "pg_isready -h 127.0.0.1 -p {port}"
WAIT = f"Wait until the server accepts connections: {READY}"
POOLER = (
    'The pooler has no role "ann" or no database "crm": correct them, or connect to the server itself. At Supabase\'s '
    "pooler, the role is postgres.PROJECT."
)
HBA = (
    'Allow role "ann" from this machine in pg_hba.conf and reload the server, or connect from a machine that is '
    'allowed. If the message says "no encryption", add sslmode=require to the URL.'
)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (fatal("the database system is starting up"), WAIT),
        (fatal("the database system is shutting down"), WAIT),
        (fatal("the database system is in recovery mode"), WAIT),
        (fatal("the database system is not yet accepting connections"), WAIT),
        (fatal("sorry, too many clients already"), FULL),
        (fatal("remaining connection slots are reserved for roles with the SUPERUSER attribute"), FULL),
        (
            fatal('too many connections for database "crm"'),
            'End a session in it, or raise its limit as a superuser: ALTER DATABASE "crm" CONNECTION LIMIT -1',
        ),
        (fatal("no more connections allowed (max_client_conn)"), FULL),
        (fatal("MaxClientsInSessionMode: max clients reached"), FULL),
        (fatal("Tenant or user not found"), POOLER),
        (fatal("no such database: crm"), POOLER),
        (fatal("bouncer config error"), POOLER),
        (fatal('no pg_hba.conf entry for host "10.0.0.7", user "ann", database "crm", no encryption'), HBA),
        (fatal('pg_hba.conf rejects connection for host "10.0.0.7", user "ann", database "crm"'), HBA),
        (
            fatal("connection is insecure (try using `sslmode=require`)"),
            "Add sslmode=require to the URL, or set PGSSLMODE=require.",
        ),
        (
            fatal("connection requires a valid client certificate"),
            "Give the client certificate and its key, which only you may read: sslcert=FILE sslkey=FILE.",
        ),
        (
            fatal('cannot connect to invalid database "crm"'),
            'An interrupted DROP DATABASE left "crm" unusable. Run: lastgood recover',
        ),
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "The program at port {port} of 127.0.0.1 is not PostgreSQL: correct the port. PostgreSQL's own is 5432 by "
            "default.",
        ),
        (
            b"",
            "The program at port {port} of 127.0.0.1 ended the connection: check that it is PostgreSQL, and read the "
            f"end of its log. To try it: {READY}",
        ),
        (fatal("nothing that lastgood knows"), None),
    ],
)
def test_what_a_server_answers(program: Answering, answer: bytes, expected: str | None) -> None:
    program.answer = answer
    found = hint(f"postgresql://ann@127.0.0.1:{program.port}/crm?sslmode=disable&gssencmode=disable")
    assert found == (expected.replace("{port}", str(program.port)) if expected is not None else None)


def test_a_server_without_ssl(program: Answering) -> None:
    program.answer = b"N"
    assert hint(f"postgresql://127.0.0.1:{program.port}/crm?sslmode=require&gssencmode=disable") == (
        "Set sslmode=prefer in the URL, or turn SSL on at the server: ssl = on."
    )


PORT = (
    "Write the port as a number from 1 to 65535, as in postgresql://user@host:5432/name, and an IPv6 address in "
    "brackets: postgresql://user@[::1]:5432/name."
)
SSLMODE = (
    "Set sslmode to disable, allow, prefer, require, verify-ca or verify-full, in the URL or in PGSSLMODE. For "
    '"no-verify" of other drivers, write require.'
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://127.0.0.1/crm?sslmode=no-verify", SSLMODE),
        ("postgresql://127.0.0.1/crm?sslmode=verify-ca&sslrootcert=system", SSLMODE),
        (
            "postgresql://127.0.0.1/crm?target_session_attrs=master",
            "Set target_session_attrs to any, read-write, read-only, primary, standby or prefer-standby, in the URL or "
            "in PGTARGETSESSIONATTRS.",
        ),
        (
            "postgresql://127.0.0.1/crm?channel_binding=on",
            "Correct the value in the URL, or remove the parameter.",
        ),
        ("postgresql://127.0.0.1:99999/crm", PORT),
        ("host=127.0.0.1 port=::1", PORT),
        ("host=127.0.0.1,127.0.0.2 port=1,2,3", "Give one port, or one for each host."),
        (
            "service=nowhere",
            "Correct the name in service=… or PGSERVICE, or add its section to ~/.pg_service.conf.",
        ),
        (
            "postgresql://[::1]:1/crm",
            "Nothing listens at port 1 of ::1: check the host and the port, and start PostgreSQL if it is down. To try "
            "it: pg_isready -h ::1 -p 1",
        ),
    ],
)
def test_what_libpq_refuses(text: str, expected: str) -> None:
    assert hint(text) == expected


def test_a_host_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("PGPORT", str(port))
        assert hint("host=127.0.0.1 connect_timeout=2 dbname=postgres gssencmode=disable") == (
            f"Nothing answers at port {port} of 127.0.0.1: check the host, the firewall and the VPN. To try it: "
            f"pg_isready -h 127.0.0.1 -p {port}"
        )


def test_an_error_of_a_statement_has_no_such_hint() -> None:
    assert unreachable.hint(psycopg.OperationalError("the connection is closed; timeout expired")) is None
