"""The login of a role without rights: where it is tried, and what makes it possible where the server refuses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import psycopg

from lastgood.errors import OR_TRUST, Refused
from lastgood.postgres.errors import one_line
from lastgood.postgres.server import Connection, Target, identity, only_row, same_cluster
from lastgood.postgres.transactions import server_process
from lastgood.text.quoting import identifier

# An operator may make this group, and allow it in pg_hba.conf where no line allows a login by password; and this role,
# which builds for operators who cannot create one.
GROUP, BUILDER = "lastgood_builders", "lastgood_builder"
CANNOT = "cannot run code in the restore point as a role without rights"
LOOPBACK = ("127.0.0.1", "::1")
_OR_NAME = "Or name a role that can log in: --build-as URL."
# The server's message when a role may log in, but not to this database (there is no SQLSTATE).
_NOT_ADMITTED = "User does not have CONNECT privilege."


class NoSecondLogin(Refused):
    """No role without rights can run code of a restore point. ``why`` is the reason on one line, ``tried`` each address
    with the server's answer."""

    code = "no_second_login"

    def __init__(self, why: str, *, tried: tuple[str, ...] = (), hint: str) -> None:
        super().__init__(f"{CANNOT}: {why}" + "".join(f"\n  {each}" for each in tried), hint=hint)
        self.why = why
        self.tried = tried


@contextmanager
def allowed(maintenance: Connection) -> Iterator[None]:
    """Turn a missing privilege to create roles into its error."""
    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise NoSecondLogin(
            f'role "{maintenance.info.user}" may not create a role ({one_line(error)})',
            hint=f"As a superuser, run once: {_once(maintenance)} {OR_TRUST}",
        ) from error


def _once(maintenance: Connection) -> str:
    """Before 16, a role with CREATEROLE could grant itself nearly every role."""
    user = identifier(maintenance.info.user)
    if maintenance.info.server_version >= 160000:
        return f"ALTER ROLE {user} CREATEROLE. {_OR_NAME}"
    return (
        f"CREATE ROLE {BUILDER} LOGIN PASSWORD '…'; GRANT {BUILDER} TO {user}. Then give --build-as "
        f"postgresql://{BUILDER}@HOST/postgres, with its password in ~/.pgpass."
    )


def log_in(maintenance: Connection, operator: Target, name: str, password: str) -> Target:
    """The target that the role can log in with: the operator's address, else loopback of the same server. Raises
    NoSecondLogin."""
    keywords = {
        key: value
        for key, value in operator.keywords.items()
        # Settings of the operator's sessions (a role, say), and a service that may name another user.
        if key not in ("user", "password", "options", "passfile", "named")
    }
    theirs = {**keywords, "user": name, "password": password}
    tried: list[str] = []
    own = identity(maintenance)
    elsewhere = server_process(maintenance) != maintenance.info.backend_pid
    for place in _places(maintenance, theirs):
        target = Target(place)
        try:
            with target.connect(application_name="lastgood login") as connection:
                if same_cluster(identity(connection), own):
                    return target
                tried.append(f"{_shown(place)}: another server answered")
                elsewhere = True
        except (psycopg.OperationalError, UnicodeError) as error:
            if _NOT_ADMITTED in str(error):
                return target  # the login itself succeeded
            tried.append(f"{_shown(place)}: {one_line(error)}")
    how = "Connect to the server itself, not through a pooler." if elsewhere else _admitting(maintenance)
    raise NoSecondLogin(
        "the server accepts no login by password from here", tried=tuple(tried), hint=f"{how} {_OR_NAME} {OR_TRUST}"
    )


class Group(Enum):
    """The group that pg_hba.conf admits: whether it exists, and this role can grant it."""

    MISSING = "missing"
    CLOSED = "closed"
    USABLE = "usable"


def group(maintenance: Connection) -> Group:
    """Look the group up. It must add nothing to the rights of its members."""
    row = maintenance.execute(_GROUP, [GROUP]).fetchone()
    if row is None:
        return Group.MISSING
    return Group.USABLE if row[0] else Group.CLOSED


# Before 16, CREATEROLE grants any role.
_GROUP = """
SELECT pg_catalog.pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION')
       OR (SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user)
          AND pg_catalog.current_setting('server_version_num')::int4 < 160000
FROM pg_catalog.pg_roles r
WHERE rolname = %s AND NOT (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid)
"""


def _admitting(maintenance: Connection) -> str:
    """How to admit the roles to the server from this machine."""
    found, user = group(maintenance), identifier(maintenance.info.user)
    if maintenance.info.parameter_status("is_superuser") == "on":
        first = f"Run: CREATE ROLE {GROUP}. Then add" if found is Group.MISSING else "Add"
    elif found is Group.MISSING:
        first = f"As a superuser, run: CREATE ROLE {GROUP} ADMIN {user}. Then add"
    elif found is Group.CLOSED:
        first = f"As a superuser, run: GRANT {GROUP} TO {user} WITH ADMIN OPTION. Then add"
    else:
        first = "Add"
    return f'{first} "{_line(maintenance)}" as the first line of pg_hba.conf, and run: SELECT pg_reload_conf().'


def _line(maintenance: Connection) -> str:
    address, encrypted = only_row(maintenance, _CLIENT)
    kind = "local" if address is None else "hostssl" if encrypted else "host"
    return " ".join(filter(None, (kind, "all", f"+{GROUP}", address, "scram-sha-256")))


_CLIENT = """
SELECT pg_catalog.host(a) || CASE pg_catalog.family(a) WHEN 4 THEN '/32' ELSE '/128' END,
       (SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid())
FROM pg_catalog.inet_client_addr() a
"""


def _places(maintenance: Connection, keywords: dict[str, str]) -> Iterator[dict[str, str]]:
    yield keywords
    host = maintenance.info.host
    if host.startswith(("/", "@")) or host in ("localhost", ""):
        for address in LOOPBACK:
            if keywords.get("host") != address:
                kept = {key: value for key, value in keywords.items() if key not in ("hostaddr", "service")}
                yield {**kept, "host": address, "port": str(maintenance.info.port)}


def _shown(keywords: dict[str, str]) -> str:
    return keywords.get("hostaddr") or keywords.get("host") or "the default address"
