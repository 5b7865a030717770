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
from lastgood.text.quoting import identifier

_WITHOUT_LIBPQ = re.compile(
    r"resolve host '([^']*)'|could not match \d+ port|server at \"([^\"]*)\", port (\d*) failed: timeout expired"
)


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
        if attempt is None:  # psycopg itself resolves names and limits the time
            found = _WITHOUT_LIBPQ.search(str(error))
            host, name, port = found.groups(default="") if found is not None else ("", "", "")
            return cls("", host or name, port, "")
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

    @property
    def ready(self) -> str:
        return f"pg_isready -h {self.host} -p {self.port}"


def _password(each: _Attempt) -> str:
    return (
        f'Correct the password of role "{each.user}" in ~/.pgpass, in PGPASSWORD or in the URL (there, @ is written '
        f"%40), or renew it if its VALID UNTIL has passed. To try it: {each.psql}"
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


def _peer(each: _Attempt) -> str:
    return (
        f'Only the account "{each.user}" of this machine may connect as role "{each.user}": start lastgood with '
        f"sudo -u {each.user}, or connect by TCP with a password: postgresql://{each.user}@localhost:{each.port}/name"
    )


def _database(each: _Attempt) -> str:
    return f'Name a database that the server has, not "{each.database}". To list them: psql --list'


def _invalid(each: _Attempt) -> str:
    return f'An interrupted DROP DATABASE left "{each.database}" unusable. Run: lastgood recover'


def _connect(each: _Attempt) -> str:
    return (
        f"Connect as its owner, or let the role in: GRANT CONNECT ON DATABASE {identifier(each.database)} TO "
        f"{identifier(each.user)}"
    )


def _host(each: _Attempt) -> str:
    return f'Correct the host name "{each.host}", or check the name servers of this machine: getent hosts {each.host}'


def _port(each: _Attempt) -> str:
    return (
        "Write the port as a number from 1 to 65535, as in postgresql://user@host:5432/name, and an IPv6 address in "
        "brackets: postgresql://user@[::1]:5432/name."
    )


def _ports(each: _Attempt) -> str:
    return "Give one port, or one for each host."


def _service(each: _Attempt) -> str:
    return "Correct the name in service=… or PGSERVICE, or add its section to ~/.pg_service.conf."


def _sslmode(each: _Attempt) -> str:
    return (
        "Set sslmode to disable, allow, prefer, require, verify-ca or verify-full, in the URL or in PGSSLMODE. For "
        '"no-verify" of other drivers, write require.'
    )


def _attributes(each: _Attempt) -> str:
    return (
        "Set target_session_attrs to any, read-write, read-only, primary, standby or prefer-standby, in the URL or in "
        "PGTARGETSESSIONATTRS."
    )


def _value(each: _Attempt) -> str:
    return "Correct the value in the URL, or remove the parameter."


def _refused(each: _Attempt) -> str:
    return (
        f"Nothing listens at {each.address}: check the host and the port, and start PostgreSQL if it is down. "
        f"To try it: {each.ready}"
    )


def _other_program(each: _Attempt) -> str:
    return f"The program at {each.address} is not PostgreSQL: correct the port. PostgreSQL's own is 5432 by default."


def _hung_up(each: _Attempt) -> str:
    return (
        f"The program at {each.address} ended the connection: check that it is PostgreSQL, and read the end of its "
        f"log. To try it: {each.ready}"
    )


def _socket(each: _Attempt) -> str:
    return (
        f"No server of this machine has a socket for port {each.port} in the folder {each.host}: start it, correct the "
        "folder or the port, or "
        "name the host of another machine, as in postgresql://user@host:5432/name."
    )


def _closed_socket(each: _Attempt) -> str:
    return (
        f"This account may not use the socket in {each.host}: start lastgood as an account that may, or connect by "
        f"TCP, as in postgresql://{each.user}@localhost:{each.port}/name."
    )


def _silent(each: _Attempt) -> str:
    return f"Nothing answers at {each.address}: check the host, the firewall and the VPN. To try it: {each.ready}"


def _hba(each: _Attempt) -> str:
    encrypted = ' If the message says "no encryption", add sslmode=require to the URL.'
    return (
        f'Allow role "{each.user}" from this machine in pg_hba.conf and reload the server, or connect from a machine '
        f"that is allowed.{encrypted if not each.host.startswith('/') else ''}"
    )


def _encrypted(each: _Attempt) -> str:
    return "Add sslmode=require to the URL, or set PGSSLMODE=require."


def _unencrypted(each: _Attempt) -> str:
    return "Set sslmode=prefer in the URL, or turn SSL on at the server: ssl = on."


def _authority(each: _Attempt) -> str:
    return (
        "Name the file with the certificate of the server's authority: sslrootcert=FILE. For a public authority: "
        "sslrootcert=system."
    )


def _certified_name(each: _Attempt) -> str:
    return (
        "Connect by the host name in the certificate, or set sslmode=verify-ca, which does not compare names. Behind a "
        "tunnel, give both: host=NAME hostaddr=127.0.0.1."
    )


def _certificate(each: _Attempt) -> str:
    return "Give the client certificate and its key, which only you may read: sslcert=FILE sslkey=FILE."


def _ssl(each: _Attempt) -> str:
    return "Client and server disagree about SSL: correct sslmode and sslrootcert in the URL."


def _pooler(each: _Attempt) -> str:
    return (
        f'The pooler has no role "{each.user}" or no database "{each.database}": correct them, or connect to the '
        "server itself. At Supabase's pooler, the role is postgres.PROJECT."
    )


def _full(each: _Attempt) -> str:
    return (
        "Free a connection: stop a part of the application, or connect as a superuser, for whom some are reserved. "
        "To see who holds them: SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2"
    )


def _limit_of_role(each: _Attempt) -> str:
    role = identifier(each.user)
    return f"End a session of the role, or raise its limit as a superuser: ALTER ROLE {role} CONNECTION LIMIT -1"


def _limit_of_database(each: _Attempt) -> str:
    name = identifier(each.database)
    return f"End a session in it, or raise its limit as a superuser: ALTER DATABASE {name} CONNECTION LIMIT -1"


def _starting(each: _Attempt) -> str:
    return f"Wait until the server accepts connections: {each.ready}"


def _login(each: _Attempt) -> str:
    return f'Let the role log in: ALTER ROLE "{each.user}" LOGIN; or connect as another role.'


# What the message holds, in lower case, and the hint.
_CAUSES: tuple[tuple[str, Callable[[_Attempt], str]], ...] = (
    (r"no password supplied|empty password returned", _no_password),
    (r"password authentication failed|wrong password|sasl authentication failed", _password),
    (r'role ".*" does not exist', _role),
    (r'database ".*" does not exist', _database),
    (r"cannot connect to invalid database", _invalid),
    (r"permission denied for database", _connect),
    (r"is not permitted to log in", _login),
    (r"connection requires a valid client certificate|certificate authentication failed", _certificate),
    (r"no pg_hba\.conf entry|pg_hba\.conf rejects", _hba),
    (r"peer authentication failed|ident authentication failed", _peer),
    (r"too many connections for role", _limit_of_role),
    (r"too many connections for database", _limit_of_database),
    (r"too many clients|remaining connection slots|no more connections allowed|max client", _full),
    (r"starting up|shutting down|not yet accepting|recovery mode", _starting),
    (r"tenant or user not found|no such database|no such user|bouncer config error", _pooler),
    (r"invalid sslmode value|weak sslmode", _sslmode),
    (r"invalid target_session_attrs value", _attributes),
    (r'servname not supported|invalid port number|option "port"', _port),
    (r"could not match \d+ port", _ports),
    (r"invalid \w+ value|invalid integer value|could not parse network address", _value),
    (r"definition of service|service file", _service),
    (r"failed to resolve host|could not translate host name", _host),
    (r"invalid response to ssl negotiation|expected authentication request from server", _other_program),
    (r"connection is insecure", _encrypted),
    (r"server does not support ssl", _unencrypted),
    (r"root certificate file .* does not exist|certificate verify failed", _authority),
    (r"does not match host name", _certified_name),
    (r"certificate file|private key file", _certificate),
    (r"ssl", _ssl),
    (r"no such file or directory|failed: not a directory", _socket),
    (r"failed: permission denied", _closed_socket),
    (r"connection refused", _refused),
    (r"timeout expired|timed out|no route to host|unreachable", _silent),
    (r"server closed the connection unexpectedly", _hung_up),
)


def is_attempt(error: psycopg.Error) -> bool:
    """Whether an error is that of a connection that could not be made, not that of a statement."""
    if not isinstance(error, psycopg.OperationalError) or error.sqlstate is not None:
        return False
    return error.pgconn is not None or _WITHOUT_LIBPQ.search(str(error)) is not None


def hint(error: psycopg.OperationalError) -> str | None:
    """What to do about a connection that could not be made; None for another error, and for an unknown cause."""
    if not is_attempt(error):
        return None
    text = str(error).lower()
    for pattern, words in _CAUSES:
        if re.search(pattern, text):
            return words(_Attempt.of(error))
    return None
