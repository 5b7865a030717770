"""The rights of the role in this database, and the schemas that can therefore be rolled back in place.

Each right is tried in a transaction that is rolled back; names of roles and of platforms count for nothing. Two rights
cannot be tried that way, CREATE DATABASE and pg_terminate_backend: there the role's attributes and memberships count.
Renaming a database is never tried, since it would block logins for seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from lastgood.in_place.exchange import snapshots
from lastgood.in_place.survey import objects
from lastgood.in_place.ties import EventTrigger, Publication, Ties, evaluated, queries, retie
from lastgood.postgres.errors import message_of
from lastgood.postgres.mark import OF_A_RUN
from lastgood.postgres.replacing import foreign_owners
from lastgood.postgres.server import Connection, only_row
from lastgood.text.units import counted

# A lock that is not free at once shows the right to take it: privileges are checked before the wait.
LOCK_TIMEOUT = "50ms"
STATEMENT_TIMEOUT = "5s"
_PROBE = sql.Identifier("lastgood_probe")


@dataclass(frozen=True, slots=True)
class Capability:
    """One right. ``name`` is stable; ``text`` is one line: the action, and the reason if it is not permitted."""

    name: str
    able: bool
    text: str


@dataclass(frozen=True, slots=True)
class Staying:
    """A schema that is not rolled back, and the reason."""

    schema: str
    reason: str


@dataclass(frozen=True, slots=True)
class Capabilities:
    """The answers of the probe. ``schemas`` can go back in place; ``staying`` cannot. ``by_name``: whether databases
    can exchange their names; ``in_place``: whether objects can be moved, with all ties that exist now."""

    answers: tuple[Capability, ...]
    schemas: tuple[str, ...]
    staying: tuple[Staying, ...]

    def able(self, name: str) -> bool:
        """The answer of that name."""
        return next(each.able for each in self.answers if each.name == name)

    @property
    def by_name(self) -> bool:
        return self.able("rename database")

    @property
    def in_place(self) -> bool:
        return bool(self.schemas) and all(self.able(name) for name in _NEEDED)

    def missing(self) -> tuple[Capability, ...]:
        """The answers that prevent a switch in place."""
        return tuple(each for each in self.answers if each.name in _NEEDED and not each.able)


_NEEDED = (
    "create schema",
    "move objects",
    "lock platform tables",
    "triggers on platform tables",
    "policies on platform tables",
    "publications",
    "event triggers",
)

_RENAME = """
SELECT pg_has_role(d.datdba, 'USAGE'), r.rolsuper OR r.rolcreatedb, r.rolsuper,
       ARRAY(SELECT DISTINCT a.usename::text FROM pg_stat_activity a JOIN pg_roles o ON o.rolname = a.usename
             WHERE a.datid = d.oid AND o.rolsuper AND a.pid <> pg_backend_pid() ORDER BY 1)
FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user
"""
_ROLE = """
SELECT rolsuper, rolsuper OR rolcreatedb, pg_has_role('pg_signal_backend', 'USAGE') FROM pg_roles
WHERE rolname = current_user
"""
_SCHEMAS: LiteralString = """
SELECT n.nspname, pg_get_userbyid(n.nspowner),
       n.nspowner = current_user::regrole
       OR (n.nspowner = 'pg_database_owner'::regrole AND pg_has_role(n.nspowner, 'USAGE'))
       OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       (SELECT e.extname FROM pg_depend d JOIN pg_extension e ON e.oid = d.refobjid
        WHERE d.classid = 'pg_namespace'::regclass AND d.objid = n.oid AND d.deptype = 'e'),
       (SELECT min(e.extname) FROM pg_extension e WHERE e.extnamespace = n.oid),
       has_schema_privilege(n.oid, 'CREATE'), current_user::text
FROM pg_namespace n
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT ({of a run})
ORDER BY 1
""".replace("{of a run}", OF_A_RUN)


def schemas(connection: Connection) -> tuple[tuple[str, ...], tuple[Staying, ...]]:
    """The schemas that can go back: those that this role owns, directly or as the database's owner, and those of other
    roles in which it may create and owns everything; none of an extension. For a superuser: all but the system's."""
    going, staying = [], []
    for schema, owner, owned, member_of, holds, creates, me in connection.execute(_SCHEMAS).fetchall():
        why = ""
        if member_of is not None:
            why = f'it belongs to extension "{member_of}"'
        elif not owned and not creates:
            why = f'it belongs to role "{owner}"'
        elif not owned or (holds is not None and schema != "public"):
            inside = objects(connection, [schema])[0]
            others = [each.owner for each in inside if (not each.owned if owned else each.owner != me)]
            if not owned and others:
                also = "" if others[0] == owner else f', and holds objects of "{others[0]}"'
                why = f'it belongs to role "{owner}"{also}'
            elif holds is not None and schema != "public" and len(others) == len(inside):
                why = f'it holds extension "{holds}" and ' + (f'objects of "{others[0]}"' if others else "nothing else")
        if why:
            staying.append(Staying(schema, why))
        else:
            going.append(schema)
    return tuple(going), tuple(staying)


def probe(connection: Connection) -> Capabilities:
    """Try each right in a transaction that is rolled back. ``connection`` must be in autocommit mode. Raises
    psycopg.OperationalError when the connection is lost."""
    going, staying = schemas(connection)
    tied = queries.read(connection, going)
    # To try these would run code with the rights of this role.
    tied = evaluated.without_these(tied, evaluated.evaluated(connection, tied))
    answers = (
        _rename(connection),
        _create_database(connection),
        _tried(connection, "create schema", "create schemas", lambda: _create_schema(connection)),
        _tried(
            connection, "move objects", "move objects out of and into its schemas", lambda: _move(connection, going)
        ),
        _tried(
            connection,
            "replication role",
            "set session_replication_role",
            lambda: connection.execute("SET LOCAL session_replication_role = replica"),
        ),
        _lock(connection, tied),
        *_triggers(connection, tied),
        _policies(connection, tied),
        _publications(connection, tied),
        _event_triggers(connection, tied),
        _terminate(connection),
        _snapshots(connection),
    )
    return Capabilities(answers, going, staying)


def by_name(connection: Connection) -> bool:
    """Whether the role can rename the database, end the sessions in it, and restore each object with its owner. Tries
    nothing."""
    return _rename(connection).able


@contextmanager
def _rolled_back(connection: Connection) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [STATEMENT_TIMEOUT])
        if connection.info.parameter_status("is_superuser") == "on":  # whose event triggers would run code
            connection.execute("SET LOCAL session_replication_role = replica")
        yield


# A superuser has every right; to try one would fire these, and run their code with it.
_ALWAYS = """
SELECT FROM pg_catalog.pg_event_trigger
WHERE evtenabled IN ('A', 'R') AND pg_catalog.current_setting('is_superuser') = 'on'
  AND pg_catalog.current_setting('server_version_num')::int4 < 170000
"""


def _tried(connection: Connection, name: str, doing: str, action: Callable[[], object]) -> Capability:
    if connection.execute(_ALWAYS).fetchone() is not None:
        return Capability(name, True, doing)
    try:
        with _rolled_back(connection):
            action()
    except psycopg.errors.LockNotAvailable:
        return Capability(name, True, f"{doing} (a table was in use)")
    except psycopg.Error as error:
        if connection.broken:
            raise
        return Capability(name, False, f"{doing}: {message_of(error)}")
    return Capability(name, True, doing)


def _rename(connection: Connection) -> Capability:
    owner, creates, superuser, superusers = only_row(connection, _RENAME)
    if not owner or not creates:
        why = "this role is not the owner" if not owner else "this role lacks CREATEDB"
        return Capability("rename database", False, f"rename the database: {why}")
    if superusers and not superuser:
        return Capability(
            "rename database",
            False,
            f'rename the database: this role may not terminate the sessions of superuser "{superusers[0]}"',
        )
    others = () if superuser else foreign_owners(connection)
    if others:
        return Capability(
            "rename database",
            False,
            f'replace the database: objects of "{others[0].role}" ({others[0].first}) would lose their owner',
        )
    return Capability("rename database", True, "rename the database (by ownership and CREATEDB)")


def _create_database(connection: Connection) -> Capability:
    row = only_row(connection, _ROLE)
    return Capability("create database", row[1], "create databases (attribute CREATEDB)")


def _create_schema(connection: Connection) -> None:
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(_PROBE))


def _move(connection: Connection, going: tuple[str, ...]) -> None:
    _create_schema(connection)
    for schema in going:
        table = sql.Identifier("lastgood_probe_table")
        connection.execute(sql.SQL("CREATE TABLE {}.{} ()").format(_PROBE, table))
        connection.execute(sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(_PROBE, table, sql.Identifier(schema)))
        connection.execute(sql.SQL("ALTER TABLE {}.{} SET SCHEMA {}").format(sql.Identifier(schema), table, _PROBE))
        connection.execute(sql.SQL("DROP TABLE {}.{}").format(_PROBE, table))


def _lock(connection: Connection, tied: Ties) -> Capability:
    tables = tied.tables()
    name = "lock platform tables"
    if not tables:
        return Capability(name, True, "no outside table references the role's schemas")
    listed = ", ".join(".".join(table) for table in tables)

    def lock() -> None:
        for table in tables:
            with connection.transaction():
                connection.execute(
                    sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE NOWAIT").format(sql.Identifier(*table))
                )

    return _tried(connection, name, f"lock the referenced tables {listed}", lock)


def _executed(
    connection: Connection, name: str, doing: str, statements: Iterable[sql.Composed], none: str
) -> Capability:
    """Try the statements, one after the other; without any, the answer is yes: ``none``."""
    listed = list(statements)
    if not listed:
        return Capability(name, True, none)

    def execute() -> None:
        for statement in listed:
            retie.single(connection, statement)

    return _tried(connection, name, doing, execute)


def _triggers(connection: Connection, tied: Ties) -> Iterator[Capability]:
    own = [each for each in tied.triggers if each.tied]
    same = Ties(triggers=tuple(own))
    none = "no outside trigger calls a function of the role's schemas"
    yield _executed(
        connection,
        "triggers on platform tables",
        "recreate the triggers on referenced tables",
        retie.triggers(same, same),
        none,
    )
    yield _executed(
        connection,
        "drop triggers on platform tables",
        "drop the triggers on referenced tables",
        map(retie.drop_trigger, own),
        none,
    )


def _policies(connection: Connection, tied: Ties) -> Capability:
    return _executed(
        connection,
        "policies on platform tables",
        "change the policies on referenced tables",
        (retie.alter_policy(each) for each in tied.policies if each.tied),
        "no outside policy uses an object of the role's schemas",
    )


def _publications(connection: Connection, tied: Ties) -> Capability:
    return _executed(
        connection,
        "publications",
        f"change publication {_listed(tied.publications)}",
        (
            sql.SQL("ALTER PUBLICATION {} SET (publish = {})").format(
                sql.Identifier(each.name), sql.Literal(each.publish)
            )
            for each in tied.publications
        ),
        "no publication has tables of its schemas",
    )


def _event_triggers(connection: Connection, tied: Ties) -> Capability:
    return _executed(
        connection,
        "event triggers",
        f"create event trigger {_listed(tied.event_triggers)} again",
        (
            statement
            for each in tied.event_triggers
            for statement in (retie.drop_event_trigger(each), *retie.create_event_trigger(each))
        ),
        "no event trigger calls a function of its schemas",
    )


def _listed(named: Iterable[Publication | EventTrigger]) -> str:
    return ", ".join(f'"{each.name}"' for each in named)


def _terminate(connection: Connection) -> Capability:
    superuser, _, signals = only_row(connection, _ROLE)
    name = "terminate sessions"
    if superuser:
        return Capability(name, True, "terminate all sessions (superuser)")
    if signals:
        return Capability(name, True, "terminate sessions of all roles but superusers (member of pg_signal_backend)")
    return Capability(name, False, "terminate sessions of other roles: this role is not a member of pg_signal_backend")


def _snapshots(connection: Connection) -> Capability:
    unseen = snapshots.hidden(connection)
    name = "see snapshots"
    if unseen:
        return Capability(
            name, False, f"see the snapshots of {counted(unseen, 'session')}: this role is not a member of pg_monitor"
        )
    return Capability(name, True, "see the snapshots of all present sessions")
