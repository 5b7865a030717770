"""Staging, kept and undone schemas: found from their marks, from any machine, and dropped only when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.errors import NOT_REACHED, Blocked, Failed, Interrupted, Refused
from lastgood.in_place import marks, names
from lastgood.in_place.marks import MarkedSchema, Role, State
from lastgood.in_place.survey import Object, objects
from lastgood.in_place.ties import queries
from lastgood.postgres import mark as databases
from lastgood.postgres.database import Database, find
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection, Target, event_triggers_off

# Tables in one transaction: each takes several locks.
PORTION = 50
_STATES: list[State] = ["building", "built", "proved"]
LOCK_TIMEOUT = "3s"
PARTLY_DROPPED = "Some of these tables may already have been dropped."

_SIZES = """
SELECT n.nspname, coalesce(sum(pg_table_size(c.oid) + pg_indexes_size(c.oid)), 0)::int8, count(c.oid)
FROM pg_namespace n LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'm')
WHERE n.nspname = ANY (%s) GROUP BY 1
"""
_OPEN_TO = """
SELECT DISTINCT n.nspname FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
JOIN pg_roles r ON r.oid = a.grantee WHERE r.rolname = %s AND pg_has_role(a.grantor, 'USAGE') ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class RunSchemas:
    """All schemas of one run and one role. ``state`` is that of the staging schema that is the least advanced, and None
    for kept schemas. ``ours``: this role owns them all. ``size_bytes`` is what they cost on disk."""

    run: str
    role: Role
    made_at: datetime
    state: State | None
    schemas: tuple[str, ...]
    lives: tuple[str, ...]
    owner: str
    ours: bool
    size_bytes: int
    tables: int
    point: str
    host: str
    user: str
    options: Mapping[str, str]

    @property
    def name(self) -> str:
        """The names of the schemas, with * for the live name."""
        return {"staging": names.staging, "kept": names.kept, "undone": names.undone}[self.role](self.run, "*")


def left_by_runs(maintenance: Connection, live: Target) -> list[tuple[Database, databases.Mark]]:
    """Everything that runs left for one live database: the marked databases of the server, and the schemas of each run
    in the live database. These are described as a database that has their names, no OID and their size."""
    found = [pair for pair in databases.marked(maintenance) if pair[1].live == live.dbname]
    database = find(maintenance, live.dbname)
    if database is not None:
        found += [_as_database(each, database) for each in schemas_in(live)]
    return found


def _as_database(found: RunSchemas, live: Database) -> tuple[Database, databases.Mark]:
    mark = databases.Mark(
        role="shadow" if found.role == "staging" else "kept",
        run=found.run,
        live=live.name,
        live_oid=live.oid,
        point=found.point,
        host=found.host,
        pid=0,
        user=found.user,
        started=found.made_at,
        options={**found.options, "way": "in-place", "stage": found.state or ""},
    )
    described = replace(live, oid=0, name=found.name, owner=found.owner, comment=mark.text(), invalid=False)
    return replace(described, size_bytes=found.size_bytes), mark


def schemas_in(live: Target) -> list[RunSchemas]:
    """The schemas that runs left in a database; none if it accepts no connections."""
    try:
        with live.connect(application_name="lastgood looks for schemas") as connection:
            return run_schemas(connection)
    except psycopg.OperationalError:
        return []


def run_schemas(connection: Connection, *, run: str | None = None, role: Role | None = None) -> list[RunSchemas]:
    """The schemas that runs left in this database, by run, the oldest first. An unfinished run is one with staging
    schemas."""
    groups: dict[tuple[str, Role], list[MarkedSchema]] = {}
    for each in marks.marked(connection, run=run, role=role):
        groups.setdefault((each.mark.run, each.mark.role), []).append(each)
    names = [each.name for group in groups.values() for each in group]
    sizes = {name: (size, tables) for name, size, tables in connection.execute(_SIZES, [names])}
    found = [
        RunSchemas(
            run=run_name,
            role=role_name,
            made_at=max(each.mark.made_at for each in group),
            state=_least([each.mark.state for each in group if each.mark.state is not None]),
            schemas=tuple(each.name for each in group),
            lives=tuple(each.mark.live for each in group),
            owner=group[0].owner,
            ours=all(each.ours for each in group),
            size_bytes=sum(sizes[each.name][0] for each in group if each.name in sizes),
            tables=sum(sizes[each.name][1] for each in group if each.name in sizes),
            point=group[0].mark.point,
            host=group[0].mark.host,
            user=group[0].mark.user,
            options=group[0].mark.options,
        )
        for (run_name, role_name), group in groups.items()
    ]
    return sorted(found, key=lambda each: (each.made_at, each.run))


def remove_schemas(live: Target, run: str, *roles: Role) -> None:
    """Drop the schemas of a run that have one of these roles. Raises as ``drop`` does, and psycopg.OperationalError."""
    with live.connect(application_name=f"lastgood drops schemas {run}") as connection:
        for each in run_schemas(connection, run=run):
            if each.role in roles:
                drop(connection, each)


def _least(states: list[State]) -> State | None:
    return next((state for state in _STATES if state in states), None)


def drop(
    connection: Connection,
    found: RunSchemas,
    *,
    cancelled: Callable[[], bool] = lambda: False,
    portion: int = PORTION,
) -> None:
    """Drop the schemas of one run and role, in portions of tables, each a transaction; ``connection`` must be in
    autocommit mode. If it is interrupted, the rest keeps its marks, and a second call continues.

    CASCADE reaches only what lies in these schemas: before each portion, its tables are locked and everything outside
    that depends on the schemas is looked for. Foreign keys of staging schemas to tables that stay are dropped first.
    Raises Refused, Blocked, Interrupted, Failed.
    """
    doing = f'drop the {found.role} schemas of run "{found.run}"'
    if not found.ours:
        raise Refused(
            f'cannot {doing}: they belong to role "{found.owner}"',
            hint=f'Connect as role "{found.owner}".',
            state=NOT_REACHED,
        )
    state = NOT_REACHED
    try:
        with event_triggers_off(connection):
            if found.role == "staging":
                from lastgood.in_place.platform import keys  # here, because every look at marks loads this module

                keys.drop(connection, found.schemas, cancelled)
                _close_to(connection, found.options.get(databases.BUILD_AS, ""))
            while tables := _tables(connection, found.schemas)[:portion]:
                if cancelled():
                    raise Interrupted(
                        f"interrupted while dropping {found.role} schemas; run the command again to drop the rest",
                        state=state,
                    )
                with connection.transaction():
                    _bound(connection)
                    listed = [sql.Identifier(*each.name.names) for each in tables]
                    connection.execute(
                        sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(sql.SQL(", ONLY ").join(listed))
                    )
                    _alone(connection, found, doing, state)
                    state = PARTLY_DROPPED
                    connection.execute(sql.SQL("DROP TABLE {} CASCADE").format(sql.SQL(", ").join(listed)))
            fault.point("inplace.between_drops")
            with connection.transaction():
                _bound(connection)
                _alone(connection, found, doing, state)
                state = PARTLY_DROPPED
                connection.execute(
                    sql.SQL("DROP SCHEMA {} CASCADE").format(
                        sql.SQL(", ").join(sql.Identifier(schema) for schema in found.schemas)
                    )
                )
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
        raise Blocked(
            f"cannot {doing}: a session uses one of its tables",
            hint="Wait for that session, then run the same command again.",
            state=state,
        ) from error
    except psycopg.Error as error:
        raise Failed(
            f"cannot {doing}: {message_of(error)}", hint="To show what is left: lastgood status", state=state
        ) from error


def _close_to(connection: Connection, role: str) -> None:
    """Revoke what an unfinished run granted to the role of --build-as: it is to have no other privileges."""
    for (schema,) in connection.execute(_OPEN_TO, [role]).fetchall():
        connection.execute(
            sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(sql.Identifier(schema), sql.Identifier(role))
        )


def _tables(connection: Connection, schemas: Iterable[str]) -> list[Object]:
    """The tables, partitions before their parents: a parent's DROP would take all of them at once."""
    found = [each for each in objects(connection, schemas)[0] if each.name.kind == "table"]
    parents = {oid for (oid,) in connection.execute("SELECT DISTINCT inhparent::int8 FROM pg_inherits")}
    leaves = [each for each in found if each.oid not in parents]
    return leaves or found


def _bound(connection: Connection) -> None:
    connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])


def _alone(connection: Connection, found: RunSchemas, doing: str, state: str) -> None:
    """Raises Refused if an object outside of the schemas depends on one in them. A cast of a type in staging is the
    work of code in the restore point: only the owner of the type could create it."""
    ignored = {"pg_cast"} if found.role == "staging" else set[str]()
    # The server's own triggers on the tables that foreign keys refer to end with those keys.
    own = {oid for (oid,) in connection.execute("SELECT oid::int8 FROM pg_trigger WHERE tgisinternal")}
    outside = [
        each
        for each in queries.dependents(connection, found.schemas)
        if (each.catalogue != "pg_trigger" or each.oid not in own) and each.catalogue not in ignored
    ]
    if outside:
        raise Refused(
            f"cannot {doing}: {outside[0].what} depends on {outside[0].on}",
            hint="Drop that object first, or keep these schemas.",
            state=state,
        )
