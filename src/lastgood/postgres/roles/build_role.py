"""The role that restores run as: a login without rights, made for one run and dropped at its end.

Code in a restore point runs with the rights of the session that executes it. SET ROLE is no barrier: the code can undo
it. Only a session that logged in as another role holds. The password exists in the memory of the run alone; the server
gets the SCRAM verifier. A comment on the role, which the role itself cannot change, names its run. VALID UNTIL ends the
login of a role that a killed process left.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, ValidationError

from lastgood.errors import Failed, LastgoodError, Refused
from lastgood.postgres.errors import failed
from lastgood.postgres.mark import RunName
from lastgood.postgres.roles import second_login
from lastgood.postgres.server import Connection, Target
from lastgood.text.quoting import identifier, literal
from lastgood.text.redact import visible
from lastgood.text.units import counted

PREFIX = "lastgood_build_"
HOURS = 24
ENDED_WITHIN = 30.0  # seconds
POLL = 0.02
PUBLIC_CONNECT = """
SELECT EXISTS (SELECT FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a
               WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT')
FROM pg_catalog.pg_database d WHERE d.datname = %s
"""


class RoleMark(BaseModel):
    """The comment of a role of a run: its run, its live database and the database that it builds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    tool: str = "lastgood"
    v: int = 1
    role: str = "builder"
    run: RunName
    live: str
    database: str


@dataclass(frozen=True, slots=True)
class BuildRole:
    """A role that can log in. ``target`` is the database that it builds, with the role's password. ``verifier`` is what
    the server stores of the password, None if it is not known. ``lent``: it existed before the run, and stays."""

    name: str
    target: Target = field(repr=False)
    verifier: str | None = field(repr=False)
    lent: bool = False


@dataclass(frozen=True, slots=True)
class LeftRole:
    """A role of a run that exists on the server, with its mark."""

    oid: int
    name: str
    mark: RoleMark


def name_of(run: str) -> str:
    """The role's name for a run."""
    return (PREFIX + run.replace("-", "_"))[:63]


def make(
    maintenance: Connection, operator: Target, *, run: str, live: str, database: str, staged: bool = False
) -> BuildRole:
    """Create the role, allow it into ``database``, and log in once. ``operator``: a target of the same server with the
    operator's address. An earlier role of the run gets a new password. ``staged``: it builds schemas in a database in
    service, and may only connect to it.

    ``database`` keeps its owner, so that the role cannot change its comment or its settings. Raises NoSecondLogin if
    the role cannot log in; it is dropped then. Raises Failed if it cannot be made.
    """
    name = name_of(run)
    password = secrets.token_urlsafe(32)
    verifier = maintenance.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    mark = RoleMark(run=run, live=live, database="" if staged else database)
    try:
        with second_login.allowed(maintenance), maintenance.transaction():
            for statement in _making(maintenance, name, verifier, mark):
                maintenance.execute(statement)
            admit(maintenance, name, database, staged=staged)
    except psycopg.Error as error:
        raise failed(error, f'create the role "{name}", as which the restore point is loaded') from error
    try:
        return BuildRole(name, second_login.log_in(maintenance, operator.at(database), name, password), verifier)
    except BaseException:
        with suppress(psycopg.Error, LastgoodError):
            end(maintenance, operator, name)
        raise


def admit(maintenance: Connection, name: str, database: str, *, staged: bool) -> None:
    """Grant the role what it needs in a database itself. Raises psycopg.Error."""
    if staged and maintenance.execute(PUBLIC_CONNECT, [database]).fetchone() == (True,):
        return
    privileges = sql.SQL("CONNECT" if staged else "CONNECT, CREATE")
    maintenance.execute(
        sql.SQL("GRANT {} ON DATABASE {} TO {}").format(privileges, sql.Identifier(database), sql.Identifier(name))
    )


def renew(connection: Connection, name: str) -> None:
    """Let the role log in for another ``HOURS``. ``connection``: any session of the operator. Raises psycopg.Error."""
    connection.execute(
        sql.SQL("ALTER ROLE {} VALID UNTIL {}").format(sql.Identifier(name), sql.Literal(_until(connection)))
    )


def quiet_event_triggers(connection: Connection, name: str) -> None:
    """Let the role's next sessions begin without event triggers, where this role may set that; see
    ``server.quiet_event_triggers``."""
    role = sql.Identifier(name)
    settings = ("event_triggers = off", "session_replication_role = replica")
    for setting in settings if connection.info.server_version >= 170000 else settings[1:]:
        with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
            connection.execute(sql.SQL("ALTER ROLE {} SET {}").format(role, sql.SQL(setting)))
            return


def _until(connection: Connection) -> str:
    row = connection.execute(
        "SELECT (pg_catalog.now() + pg_catalog.make_interval(hours => %s))::text", [HOURS]
    ).fetchone()
    assert row is not None  # a SELECT without FROM always returns a row
    return str(row[0])


def probe(maintenance: Connection, operator: Target, live: str) -> None:
    """Make a role, log in as it, and drop it: raises NoSecondLogin if a run could not. ``operator``: a target of the
    same server. A killed probe leaves a role that ``orphaned`` lists."""
    name = f"{PREFIX}probe_{secrets.token_hex(4)}"
    password = secrets.token_urlsafe(32)
    verifier = maintenance.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    with second_login.allowed(maintenance), maintenance.transaction():
        for statement in _making(maintenance, name, verifier, RoleMark(run="probe", live=live, database="")):
            maintenance.execute(statement)
    try:
        second_login.log_in(maintenance, operator.at(maintenance.info.dbname), name, password)
    finally:
        _gone(maintenance, name)  # a process that is ending still counts as a connection
        maintenance.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))


def make_reader(
    maintenance: Connection, operator: Target, *, run: str, live: str, grants: Sequence[sql.Composed]
) -> Target:
    """Create a role that builds nothing, with these ``grants``, and log in to the maintenance database once; returns
    its target. Raises NoSecondLogin and psycopg.Error; the role is dropped then. A killed process leaves a role that
    ``orphaned`` lists when its sessions have ended."""
    name = name_of(run)
    password = secrets.token_urlsafe(32)
    verifier = maintenance.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    with second_login.allowed(maintenance), maintenance.transaction():
        for statement in (*_making(maintenance, name, verifier, RoleMark(run=run, live=live, database="")), *grants):
            maintenance.execute(statement)
    try:
        return second_login.log_in(maintenance, operator.at(maintenance.info.dbname), name, password)
    except BaseException:
        with suppress(psycopg.Error, LastgoodError):
            end(maintenance, operator, name)
        raise


def _gone(maintenance: Connection, name: str) -> None:
    """Wait until no session of the role is left, for a limited time."""
    deadline = time.monotonic() + ENDED_WITHIN
    query = "SELECT FROM pg_catalog.pg_stat_activity WHERE usename = %s"
    while maintenance.execute(query, [name]).fetchone() is not None and time.monotonic() < deadline:
        time.sleep(POLL)


def _making(maintenance: Connection, name: str, verifier: str, mark: RoleMark) -> Iterator[sql.Composed]:
    role = sql.Identifier(name)
    exists = maintenance.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [name]).fetchone() is not None
    if exists:
        found = next((each for each in left(maintenance) if each.name == name), None)
        if found is None or found.mark.run != mark.run:
            raise Refused(
                f'cannot create the role "{name}": a role of that name exists, and it is not one of this run',
                hint=f"Run: ALTER ROLE {identifier(name)} RENAME TO {identifier(name[:59] + '_old')}. "
                "Then run the command again.",
            )
    yield sql.SQL("{} ROLE {} LOGIN NOCREATEDB NOCREATEROLE INHERIT VALID UNTIL {} PASSWORD {}").format(
        sql.SQL("ALTER" if exists else "CREATE"), role, sql.Literal(_until(maintenance)), sql.Literal(verifier)
    )
    yield sql.SQL("COMMENT ON ROLE {} IS {}").format(role, sql.Literal(mark.model_dump_json()))
    superuser = maintenance.info.parameter_status("is_superuser") == "on"
    if not superuser:
        # To give away and to drop what the role owns, and to end its sessions.
        options = " WITH INHERIT TRUE, SET TRUE" if maintenance.info.server_version >= 160000 else ""
        yield sql.SQL("GRANT {} TO CURRENT_USER" + options).format(role)
    if second_login.group(maintenance) is second_login.Group.USABLE:
        yield sql.SQL("GRANT {} TO {}").format(sql.Identifier(second_login.GROUP), role)


def left(maintenance: Connection) -> list[LeftRole]:
    """The roles of runs on the server, by name."""
    rows = maintenance.execute(
        "SELECT oid, rolname::text, pg_catalog.shobj_description(oid, 'pg_authid') FROM pg_catalog.pg_roles"
        " WHERE pg_catalog.starts_with(rolname, %s) ORDER BY rolname",
        [PREFIX],
    )
    found = []
    for oid, name, comment in rows:
        with suppress(ValidationError):
            mark = RoleMark.model_validate_json(comment or "")
            if mark.tool == "lastgood" and mark.role == "builder":
                found.append(LeftRole(oid, name, mark))
    return found


def orphaned(maintenance: Connection, live: str) -> list[LeftRole]:
    """The roles of runs of one live database that outlived the database that they built. A running run may be about to
    drop one: check the lock. A role that only reads is in use while it has sessions."""
    names = {name for (name,) in maintenance.execute("SELECT datname::text FROM pg_catalog.pg_database")}
    used = {oid for (oid,) in maintenance.execute("SELECT DISTINCT usesysid FROM pg_catalog.pg_stat_activity")}
    return [
        each
        for each in left(maintenance)
        if each.mark.live == live and each.mark.database not in names and (each.mark.database or each.oid not in used)
    ]


def close(maintenance: Connection, name: str) -> None:
    """End the role's login and all its sessions, in every database, and wait until they are gone. A session of a role
    that may no longer log in would continue otherwise. Raises Failed."""
    maintenance.execute(
        sql.SQL("ALTER ROLE {} NOLOGIN PASSWORD NULL").format(sql.Identifier(name)),
    )
    terminate(maintenance, name)
    refuse_prepared(maintenance, name)


def refuse_prepared(maintenance: Connection, name: str) -> None:
    """Raise Failed if the role left a prepared transaction, which could be committed later."""
    query = "SELECT gid::text, database::text FROM pg_catalog.pg_prepared_xacts WHERE owner = %s LIMIT 1"
    if (prepared := maintenance.execute(query, [name]).fetchone()) is not None:
        gid, database = prepared
        raise Failed(
            f'cannot continue: code in the restore point left the prepared transaction "{visible(gid)}"',
            hint=f"In database {identifier(database)}, run: ROLLBACK PREPARED {literal(gid)}. "
            "Then run: lastgood status",
        )


_WAITING = "SELECT pid, wait_event, query FROM pg_stat_activity WHERE usename = "


def terminate(maintenance: Connection, name: str, database: str | None = None) -> None:
    """Terminate the sessions of a role, in every database or in one, and wait until they are gone. Raises Failed."""
    deadline = time.monotonic() + ENDED_WITHIN
    query = (
        "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
        " WHERE usename = %s AND (%s::text IS NULL OR datname = %s) ORDER BY pid"
    )
    while found := maintenance.execute(query, [name, database, database]).fetchall():
        if time.monotonic() > deadline:
            raise Failed(
                f'cannot terminate {counted(len(found), "session")} of role "{name}" within {ENDED_WITHIN:.0f} s: '
                f"{'process' if len(found) == 1 else 'processes'} {', '.join(str(pid) for pid, _ in found)}",
                hint=f"Find what they wait for: {_WAITING}{literal(name)}. Then run: lastgood status",
            )
        time.sleep(POLL)


def close_if_left(maintenance: Connection, name: str) -> None:
    """Close the role if it exists. Raises Failed."""
    if maintenance.execute("SELECT FROM pg_catalog.pg_roles WHERE rolname = %s", [name]).fetchone() is not None:
        close(maintenance, name)


def changed_password(maintenance: Connection, role: BuildRole) -> bool:
    """Whether the role's password is another than the run's: with a password that it knows, code of the restore point
    could have opened sessions of its own. Where this role may not read it, a login shows it."""
    try:
        row = maintenance.execute(
            "SELECT rolpassword IS DISTINCT FROM %s FROM pg_catalog.pg_authid WHERE rolname = %s",
            [role.verifier, role.name],
        ).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        return not _can_log_in(role)
    return row is None or bool(row[0])


def _can_log_in(role: BuildRole) -> bool:
    try:
        role.target.connect(application_name="lastgood login").close()
    except psycopg.OperationalError:
        return False
    return True


def end(maintenance: Connection, operator: Target, name: str) -> None:
    """Close the role, drop what it owns in any database together with its privileges, and drop it. No error if it is
    gone. The database that it built must be dropped, or handed over, before. Raises Failed."""
    row = maintenance.execute("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s", [name]).fetchone()
    if row is None:
        return
    close(maintenance, name)
    try:
        for database in databases_with(maintenance, row[0]):
            with operator.at(database).connect(application_name="lastgood ends a role") as connection:
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        # Also revokes privileges on databases that are closed to connections.
        maintenance.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
        maintenance.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        raise failed(error, f'drop the role "{name}"') from error


def databases_with(maintenance: Connection, role: int) -> Sequence[str]:
    """The databases in which the role owns something or has privileges. Those on databases themselves go with any."""
    rows = maintenance.execute(
        """
        SELECT DISTINCT d.datname::text FROM pg_catalog.pg_shdepend s JOIN pg_catalog.pg_database d
          ON d.oid = CASE WHEN s.classid = 'pg_catalog.pg_database'::regclass THEN s.objid ELSE s.dbid END
        WHERE s.refclassid = 'pg_catalog.pg_authid'::regclass AND s.refobjid = %s AND d.datallowconn ORDER BY 1
        """,
        [role],
    )
    return [name for (name,) in rows]
