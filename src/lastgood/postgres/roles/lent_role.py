"""An existing role without rights that loads restore points, for operators who cannot create roles.

It stays when the run ends. Everything that it owns in the new database is given to the operator, and its privileges
there are revoked. It must be of use for nothing else: code of restore points runs with its rights.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import psycopg
from psycopg import sql

from lastgood.errors import Failed
from lastgood.postgres.errors import failed, one_line
from lastgood.postgres.mark import marked
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.build_role import (
    CANNOT,
    ENDED_WITHIN,
    GROUP,
    OR_TRUST,
    POLL,
    BuildRole,
    NoSecondLogin,
    databases_with,
)
from lastgood.postgres.server import Connection, Target, identity, same_cluster

# What the role has that code must not have, in words.
_TOO_MUCH = """
SELECT CASE WHEN r.rolsuper THEN 'is a superuser' WHEN r.rolcreaterole THEN 'has CREATEROLE'
            WHEN r.rolcreatedb THEN 'has CREATEDB' WHEN r.rolreplication THEN 'has REPLICATION'
            WHEN r.rolbypassrls THEN 'has BYPASSRLS' END
FROM pg_catalog.pg_roles r WHERE r.rolname = %(role)s
UNION ALL
SELECT 'is a member of "' || g.rolname || '"'
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE r.rolname = %(role)s AND g.rolname <> %(group)s
UNION ALL
SELECT 'does not have "' || current_user || '" as a member'
FROM pg_catalog.pg_roles r WHERE r.rolname = %(role)s AND NOT pg_catalog.pg_has_role(current_user, r.oid, 'USAGE')
"""

_SET_IN = """
SELECT d.datname::text FROM pg_catalog.pg_db_role_setting s JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase
WHERE s.setrole = (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s)
"""


def role_for(
    maintenance: Connection,
    operator: Target,
    build_as: Target | None,
    *,
    run: str,
    live: str,
    database: str,
    staged: bool = False,
) -> BuildRole:
    """The role that builds ``database``: the one of ``build_as``, or else one that is made for the run. ``operator``: a
    target of the same server. ``staged``: it builds schemas in a database in service. Raises NoSecondLogin, Failed."""
    if build_as is None:
        return build_role.make(maintenance, operator, run=run, live=live, database=database, staged=staged)
    user = verify(maintenance, operator, build_as, run=run).name
    try:
        build_role.admit(maintenance, user, database, staged=staged)
    except psycopg.Error as error:
        raise failed(error, f'admit role "{user}" to "{database}"') from error
    return verify(maintenance, operator, build_as, run=run, database=database)


def verify(
    maintenance: Connection, operator: Target, theirs: Target, *, run: str | None, database: str | None = None
) -> BuildRole:
    """Log in as the role of ``theirs``, and check that it has no rights outside of databases of ``run``. ``operator``:
    a target of the same server. ``database``: the one that it builds; None before there is one. Raises
    NoSecondLogin."""
    place = _place(operator, theirs, database or maintenance.info.dbname)
    try:
        with place.connect(application_name="lastgood login") as connection:
            role = connection.info.user
            if not same_cluster(identity(connection), identity(maintenance)):
                raise NoSecondLogin(f'{CANNOT}: "{role}" of --build-as logs in to another server', hint=OR_TRUST)
            found = [what for (what,) in maintenance.execute(_TOO_MUCH, {"role": role, "group": GROUP}) if what]
            row = maintenance.execute("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone()
            ours = {each.name for each, mark in marked(maintenance) if mark.run == run}
            used = [each for each in databases_with(maintenance, row[0] if row else 0) if each not in (*ours, database)]
            found += [f'owns objects or has privileges in "{each}"' for each in used]
            if found:
                raise NoSecondLogin(
                    f'{CANNOT}: role "{role}" of --build-as {found[0]}',
                    hint="Give a role that is used for nothing else, without attributes and memberships, and grant it "
                    f"to your own role: GRANT {role} TO {maintenance.info.user}",
                )
            # Of an earlier restore point's code.
            connection.execute("ALTER ROLE CURRENT_USER RESET ALL")
            for (name,) in maintenance.execute(_SET_IN, [role]).fetchall():
                statement = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} RESET ALL")
                connection.execute(statement.format(sql.Identifier(name)))
    except (psycopg.OperationalError, UnicodeError) as error:
        raise NoSecondLogin(
            f"{CANNOT}: the role of --build-as cannot log in: {one_line(error)}", hint=OR_TRUST
        ) from error
    return BuildRole(role, place, _verifier(maintenance, role), lent=True)


def _place(operator: Target, theirs: Target, database: str) -> Target:
    """The operator's address with the login of the role, and what its URL has besides."""
    address = {k: v for k, v in operator.keywords.items() if k not in ("user", "password", "passfile", "options")}
    own = {key: value for key, value in theirs.keywords.items() if key not in ("dbname", "options")}
    return Target({**address, **own, "dbname": database})


def _verifier(maintenance: Connection, role: str) -> str | None:
    """Return the stored form of the role's password; None if this role may not read it."""
    try:
        row = maintenance.execute("SELECT rolpassword FROM pg_catalog.pg_authid WHERE rolname = %s", [role]).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return None
    return row[0] if row is not None else None


def close(maintenance: Connection, role: BuildRole) -> None:
    """End the role's access to the database that it built, and all its sessions there. Raises Failed."""
    database = role.target.dbname
    maintenance.execute(
        sql.SQL("REVOKE ALL ON DATABASE {} FROM {}").format(sql.Identifier(database), sql.Identifier(role.name))
    )
    deadline = time.monotonic() + ENDED_WITHIN
    while _terminated(maintenance, role.name, database):
        if time.monotonic() > deadline:
            raise Failed(
                f'cannot end the sessions of the role "{role.name}" in "{database}" within {ENDED_WITHIN:.0f} s',
                hint="End them with pg_terminate_backend, then run: lastgood abort",
            )
        time.sleep(POLL)
    build_role.refuse_prepared(maintenance, role.name)


def _terminated(maintenance: Connection, role: str, database: str) -> Sequence[object]:
    return maintenance.execute(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE usename = %s AND datname = %s",
        [role, database],
    ).fetchall()
