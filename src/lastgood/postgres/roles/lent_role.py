"""An existing role without rights that loads restore points, for operators who cannot create roles.

It stays when the run ends. Everything that it owns in the new database is given to the operator, and its privileges
there are revoked. It must be of use for nothing else: code of restore points runs with its rights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.errors import OR_TRUST
from lastgood.postgres.errors import failed, one_line
from lastgood.postgres.mark import marked
from lastgood.postgres.roles import build_role
from lastgood.postgres.roles.build_role import BuildRole, databases_with
from lastgood.postgres.roles.second_login import GROUP, NoSecondLogin
from lastgood.postgres.server import Connection, Target, identity, same_cluster
from lastgood.text.quoting import identifier
from lastgood.text.units import listed

# The attributes that code must not have.
_ATTRIBUTES: LiteralString = """
SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = %s
"""
_GROUPS: LiteralString = """
SELECT g.rolname::text FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member
JOIN pg_catalog.pg_roles g ON g.oid = m.roleid WHERE r.rolname = %s AND g.rolname <> %s ORDER BY 1
"""
_IS_MEMBER: LiteralString = """
SELECT FROM pg_catalog.pg_roles WHERE rolname = %s AND pg_catalog.pg_has_role(current_user, oid, 'USAGE')
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
                raise NoSecondLogin(
                    f'role "{role}" of --build-as logs in to another server',
                    hint=f"Correct the host in the URL of --build-as. {OR_TRUST}",
                )
            wrong = list(_too_much(maintenance, role))
            row = maintenance.execute("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone()
            ours = {each.name for each, mark in marked(maintenance) if mark.run == run}
            used = [each for each in databases_with(maintenance, row[0] if row else 0) if each not in (*ours, database)]
            if used:
                wrong.append(
                    (
                        f"owns objects or has privileges in {listed(map(identifier, used), len(used))}",
                        f"Name a role without objects and privileges in {listed(map(identifier, used), len(used))}.",
                    )
                )
            if wrong:
                why = " and ".join(what for what, _ in wrong)
                hint = " ".join((*(how for _, how in wrong), OR_TRUST))
                raise NoSecondLogin(f'role "{role}" of --build-as {why}', hint=hint)
            # Of an earlier restore point's code.
            connection.execute("ALTER ROLE CURRENT_USER RESET ALL")
            for (name,) in maintenance.execute(_SET_IN, [role]).fetchall():
                statement = sql.SQL("ALTER ROLE CURRENT_USER IN DATABASE {} RESET ALL")
                connection.execute(statement.format(sql.Identifier(name)))
    except (psycopg.OperationalError, UnicodeError) as error:
        raise NoSecondLogin(
            f"the role of --build-as cannot log in: {one_line(error)}",
            hint=f"Check the user in the URL of --build-as and its password in ~/.pgpass. {OR_TRUST}",
        ) from error
    return BuildRole(role, place, _verifier(maintenance, role), lent=True)


def _too_much(maintenance: Connection, role: str) -> Iterator[tuple[str, str]]:
    """What the role has that code must not have, or lacks, in words; each with its remedy."""
    named, user = identifier(role), maintenance.info.user
    attributes = maintenance.execute(_ATTRIBUTES, [role]).fetchone() or ()
    names = ("SUPERUSER", "CREATEROLE", "CREATEDB", "REPLICATION", "BYPASSRLS")
    for name in [name for name, has in zip(names, attributes, strict=False) if has]:
        yield f"has {name}", f"Run: ALTER ROLE {named} NO{name}."
    for (group,) in maintenance.execute(_GROUPS, [role, GROUP]):
        yield f'is a member of "{group}"', f"Run: REVOKE {identifier(group)} FROM {named}."
    if maintenance.execute(_IS_MEMBER, [role]).fetchone() is None:
        yield f'does not have "{user}" as a member', f"Run: GRANT {named} TO {identifier(user)}."


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
    build_role.terminate(maintenance, role.name, database)
    build_role.refuse_prepared(maintenance, role.name)
