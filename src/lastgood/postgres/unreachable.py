"""Why a connection could not be made, and what to do: a hint for each cause.

libpq has no SQLSTATE for a failed connection. Its text is all there is, and a server may translate its own. So the text
decides about the hint only, never about what lastgood does, and an unknown one gets a hint that names every cause.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from lastgood.postgres.server import Target


@dataclass(frozen=True, slots=True)
class _Attempt:
    """What the connection was made with."""

    user: str
    host: str
    port: str
    database: str

    @classmethod
    def of(cls, error: psycopg.OperationalError) -> _Attempt:
        attempt = error.pgconn
        if attempt is None:  # psycopg resolves names before libpq is involved
            found = re.search(r"resolve host '([^']*)'", str(error))
            return cls("", found[1] if found is not None else "", "", "")
        fields = (attempt.user, attempt.host, attempt.port, attempt.db)
        return cls(*(each.decode("utf-8", "replace") if each else "" for each in fields))

    @property
    def address(self) -> str:
        return f"port {self.port} of {self.host}" if self.port else self.host

    @property
    def psql(self) -> str:
        """The same connection by psql, which shows whether lastgood or the address is at fault."""
        keywords = {"host": self.host, "port": self.port, "user": self.user, "dbname": self.database}
        return f'psql "{Target({name: value for name, value in keywords.items() if value})}"'


def _password(each: _Attempt) -> str:
    return (
        f'Correct the password of role "{each.user}" in ~/.pgpass, in PGPASSWORD or in the URL (there, @ is written '
        f"%40). To try it: {each.psql}"
    )


def _no_password(each: _Attempt) -> str:
    host = each.host if not each.host.startswith("/") else "*"
    return (
        f"Add a line to ~/.pgpass, which only you may read (chmod 600): "
        f"{host}:{each.port or '*'}:*:{each.user}:PASSWORD; or set PGPASSWORD."
    )


def _role(each: _Attempt) -> str:
    return (
        f'Connect as a role that the server has, not as "{each.user}": the user of the URL, or PGUSER. Without one, '
        "the name of your account is used."
    )


def _database(each: _Attempt) -> str:
    return f'Name a database that the server has, not "{each.database}". To list them: psql --list'


def _host(each: _Attempt) -> str:
    return f'Correct the host name "{each.host}", or check the name servers of this machine: getent hosts {each.host}'


def _port(each: _Attempt) -> str:
    return "Write the port as a number: postgresql://user@host:5432/name."


def _refused(each: _Attempt) -> str:
    return (
        f"Nothing listens at {each.address}: check the host and the port, and start PostgreSQL if it is down. "
        f"To try it: pg_isready -h {each.host} -p {each.port}"
    )


def _socket(each: _Attempt) -> str:
    return (
        f"No server of this machine has a socket for port {each.port} in {each.host}: start it, correct the port, or "
        "name the host of another machine, as in postgresql://user@host:5432/name."
    )


def _silent(each: _Attempt) -> str:
    return (
        f"Nothing answers at {each.address}: check the host, the firewall and the VPN. To try it: "
        f"pg_isready -h {each.host} -p {each.port}"
    )


def _hba(each: _Attempt) -> str:
    return (
        f'Allow role "{each.user}" from this machine in pg_hba.conf and reload the server, or connect from a machine '
        'that is allowed. If the message says "no encryption", add sslmode=require to the URL.'
    )


def _ssl(each: _Attempt) -> str:
    return "Client and server disagree about SSL: correct sslmode and sslrootcert in the URL."


def _full(each: _Attempt) -> str:
    return (
        "Free a connection: stop a part of the application, or connect as a superuser, for whom some are reserved. "
        "To see who holds them: SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2"
    )


def _starting(each: _Attempt) -> str:
    return f"Wait until the server accepts connections: pg_isready -h {each.host} -p {each.port}"


def _login(each: _Attempt) -> str:
    return f'Let the role log in: ALTER ROLE "{each.user}" LOGIN; or connect as another role.'


# What the message holds, in lower case, and the hint.
_CAUSES: tuple[tuple[str, Callable[[_Attempt], str]], ...] = (
    (r"no password supplied|empty password returned", _no_password),
    (r"password authentication failed|wrong password|sasl authentication failed", _password),
    (r'role ".*" does not exist', _role),
    (r'database ".*" does not exist', _database),
    (r"is not permitted to log in", _login),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", _hba),
    (r"peer authentication failed|ident authentication failed", _role),
    (r"too many connections|too many clients|remaining connection slots", _full),
    (r"starting up|shutting down|not yet accepting|recovery mode", _starting),
    (r"servname not supported", _port),
    (r"failed to resolve host|could not translate host name", _host),
    (r"ssl", _ssl),
    (r"no such file or directory", _socket),
    (r"connection refused", _refused),
    (r"timeout expired|timed out|no route to host|unreachable", _silent),
)


def hint(error: psycopg.OperationalError) -> str | None:
    """What to do about a connection that could not be made; None for another error, and for an unknown cause."""
    text = str(error).lower()
    if error.sqlstate is not None or (error.pgconn is None and "resolve host" not in text):
        return None
    for pattern, words in _CAUSES:
        if re.search(pattern, text):
            return words(_Attempt.of(error))
    return None
