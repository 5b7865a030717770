"""The present state of the server: works without local files, on any machine that reaches it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from lastgood.application import record
from lastgood.application.record import StopRecord
from lastgood.config.tables import NO_PGBOUNCER, Drill, PgBouncer
from lastgood.errors import Refused
from lastgood.in_place import marks
from lastgood.in_place.kept import left_by_runs
from lastgood.journal.past_runs import DrillDue, drill_due
from lastgood.load.deferred import lists
from lastgood.load.deferred.watch import activity
from lastgood.models import Document, Frozen
from lastgood.plan.unfinished import Unfinished, unfinished
from lastgood.postgres import clock, database, lock, table_locks
from lastgood.postgres.database import Database
from lastgood.postgres.deployment import Stage, read_deployment
from lastgood.postgres.leftover import leftovers
from lastgood.postgres.mark import BROUGHT_BACK, DEPLOYMENT, Mark
from lastgood.postgres.pgbouncer import consoles
from lastgood.postgres.pgbouncer.consoles import psql
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.table_locks import FenceStatus
from lastgood.text.quoting import argument


class LiveStatus(Frozen):
    """The live database; ``open`` is whether it accepts connections."""

    name: str
    oid: int
    bytes: int | None
    open: bool
    sessions: int


class OurDatabase(Frozen):
    """A shadow or a kept database; ``in-place``: the staging or kept schemas of a run, whose names have * for the live
    name. ``origin``: its origin in words; ``deployment`` is the failed one that had changed
    it, empty otherwise. ``invalid``: DROP DATABASE was interrupted; such a database can only be removed."""

    name: str
    oid: int
    role: Literal["shadow", "kept"]
    run: str
    live: str
    bytes: int | None
    made_at: datetime
    host: str
    user: str
    point: str
    stage: str
    origin: str
    undo_command: str | None
    invalid: bool = False
    deployment: str = ""
    way: Literal["by-name", "in-place"] = "by-name"


class UnfinishedRun(Frozen):
    """A run that is active or was stopped. ``shadow`` is its database on the server; empty if it has none and only a
    file on this machine shows that it stopped the application. ``kind`` is ``rollback``, or the purpose of a copy:
    ``restore``, ``trial``, ``recover``. ``working``: the session that executes it now; empty if it stopped.
    ``obstacle``: why it cannot be resumed, or not on this machine; empty if it can."""

    run: str
    live: str
    shadow: str
    stage: str
    host: str
    user: str
    started: datetime
    working: str
    commands: tuple[str, ...]
    kind: str = "rollback"
    obstacle: str = ""


class UnfinishedDeployment(Frozen):
    """A deployment that is active or was killed: the live database has its mark. ``stage`` is its last stage, ``point``
    the restore point from before, ``working`` the session that works on the live database; empty without one, and then
    ``commands`` are the choices: back to that restore point, or accept the database as it is."""

    run: str
    stage: Stage
    point: str
    label: str
    program: str
    host: str
    user: str
    started: datetime
    working: str
    commands: tuple[str, ...]


class Finishing(Frozen):
    """A run whose database is in service, with deferred ``tasks``, of which ``left`` are open: indexes to build,
    foreign keys to validate, materialized views to refresh, checks and generated columns to verify. ``working`` is the
    session that finishes them, ``doing`` its progress; both empty without one."""

    run: str
    tasks: int
    left: int
    indexes_left: int
    foreign_keys_left: int
    views_left: int = 0
    checks_left: int = 0
    working: str
    doing: str
    commands: tuple[str, ...]


class LeftoverStatus(Frozen):
    """A closed database without a mark and with a shadow's name: a run was killed while creating it. ``command``
    removes it, if it is empty."""

    name: str
    oid: int
    bytes: int | None
    command: str


class RoleStatus(Frozen):
    """The role as which a killed ``run`` loaded its restore point, without the database that it built. It has no rights
    and soon no login. ``command`` removes it."""

    name: str
    run: str
    command: str


class PoolStatus(Frozen):
    """A database of a PgBouncer that leads to the live one, managed through ``console``. ``command`` resumes its
    clients if it is paused. ``problem`` is the reason if its state is unknown; then it may have no name."""

    console: str
    database: str
    paused: bool
    waiting: int
    command: str
    problem: str = ""


class PostMortemStatus(Frozen):
    """A rollback without a post-mortem: when that is ``due``, and which other items of the checklist after a rollback
    are open. ``open`` is measured for the newest three only, and empty for the others."""

    run: str
    due: datetime
    overdue: bool
    open: tuple[str, ...]
    command: str


class Status(Document):
    """All databases and runs of lastgood on the server for one live database, and this machine's records of its
    application. ``empty_views``: the commands that refresh materialized views which a switch in place left empty."""

    server_version: str
    live: LiveStatus
    working: str
    fence: FenceStatus | None
    shadows: tuple[OurDatabase, ...]
    kept: tuple[OurDatabase, ...]
    unfinished: tuple[UnfinishedRun, ...]
    deployment: UnfinishedDeployment | None = None
    finishing: tuple[Finishing, ...] = ()
    empty_views: tuple[str, ...] = ()
    leftovers: tuple[LeftoverStatus, ...] = ()
    roles: tuple[RoleStatus, ...] = ()
    application: StopRecord | None = None
    pools: tuple[PoolStatus, ...] = ()
    post_mortems: tuple[PostMortemStatus, ...] = ()
    drill: DrillDue | None = None


def read(
    target: Target, pgbouncer: PgBouncer = NO_PGBOUNCER, state: Path | None = None, drill: Drill | None = None
) -> Status:
    """The status of ``target``'s database; ``state`` is the folder with records of its application and past drills,
    ``drill`` has the interval of drills. Raises Refused, Failed."""
    live_name = target.dbname
    with database.connect_maintenance(target, live_name) as maintenance:
        live = database.describe(maintenance, live_name)
        working = lock.holder(maintenance, live_name) or ""
        row = maintenance.execute(
            "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE datid = %s AND backend_type = 'client backend'",
            [live.oid],
        ).fetchone()
        ours = [described(each, mark) for each, mark in left_by_runs(maintenance, target) if mark.role != "copy"]
        runs = [unfinished_of(maintenance, each, working) for each in unfinished(maintenance, target, state)]
        return Status(
            server_version=maintenance.info.parameter_status("server_version") or "",
            live=LiveStatus(
                name=live.name,
                oid=live.oid,
                bytes=live.size_bytes,
                open=live.allow_connections and not live.invalid,
                sessions=int(row[0]) if row is not None else 0,
            ),
            working=working,
            fence=table_locks.holder(maintenance, live.oid),
            shadows=tuple(each for each in ours if each.role == "shadow"),
            kept=tuple(sorted((e for e in ours if e.role == "kept"), key=lambda e: e.made_at, reverse=True)),
            unfinished=tuple(runs),
            deployment=_deployment(live, working, runs),
            finishing=_finishing(target, live, working),
            empty_views=_empty_views(target, live_name),
            # A running run may be about to mark its new database.
            leftovers=() if working else tuple(_leftovers(maintenance, live_name)),
            roles=() if working else tuple(_roles(maintenance, live_name)),
            application=record.read(state, target) if state is not None else None,
            pools=tuple(_pools(pgbouncer, target.at(live_name), maintenance)),
            drill=drill_due(state, live_name, drill.every, clock.now(maintenance)) if state and drill else None,
        )


def described(database: Database, mark: Mark) -> OurDatabase:
    """The description of a shadow or a kept database, by its mark."""
    assert mark.role != "copy"
    return OurDatabase(
        name=database.name,
        oid=database.oid,
        role=mark.role,
        run=mark.run,
        live=mark.live,
        bytes=database.size_bytes,
        made_at=mark.started,
        host=mark.host,
        user=mark.user,
        point=mark.point,
        stage=mark.options.get("stage", ""),
        origin=_origin(mark),
        way="in-place" if mark.options.get("way") == "in-place" else "by-name",
        undo_command=f"lastgood undo {mark.run}" if mark.role == "kept" and not database.invalid else None,
        invalid=database.invalid,
        deployment=mark.options.get(DEPLOYMENT, ""),
    )


def unfinished_of(maintenance: Connection, run: Unfinished, working: str) -> UnfinishedRun:
    """``run`` with the session that executes it; ``working``: the holder of the live database's lock, empty without
    one."""
    mark, name = run.mark, run.database.name if run.database is not None else ""
    holder = lock.copy_holder(maintenance, name) if mark.role == "copy" else None
    at_work = holder or (working if mark.run in working else "")
    return UnfinishedRun(
        run=mark.run,
        live=mark.live,
        shadow=name,
        stage=mark.options.get("stage", ""),
        host=mark.host,
        user=mark.user,
        started=mark.started,
        working=at_work,
        commands=() if at_work else run.commands,
        kind=mark.options.get("kind", "rollback"),
        obstacle=run.obstacle or run.not_here,
    )


def _deployment(live: Database, working: str, unfinished: Sequence[UnfinishedRun]) -> UnfinishedDeployment | None:
    mark = read_deployment(live.comment)
    if mark is None or mark.live_oid != live.oid:
        return None
    # If a rollback of this deployment is unfinished, it only has to be resumed.
    resumable = [each.run for each in unfinished if not each.obstacle]
    back = f"lastgood resume {resumable[0]}" if resumable else "lastgood recover"
    return UnfinishedDeployment(
        **mark.model_dump(include={"run", "stage", "point", "label", "program", "host", "user", "started"}),
        working=working,
        commands=() if working else (back, f"lastgood deploy --accept {mark.run}"),
    )


def _pools(config: PgBouncer, live: Target, maintenance: Connection) -> Iterator[PoolStatus]:
    for state in consoles(config, live, maintenance):
        unknown = [("", state.problem)] if state.problem else state.doubtful
        for name, problem in unknown:
            yield PoolStatus(
                console=state.shown,
                database=name,
                paused=False,
                waiting=0,
                command=psql(state, "SHOW DATABASES"),
                problem=problem,
            )
        for each in state.databases:
            yield PoolStatus(
                console=state.shown,
                database=each.name,
                paused=each.paused,
                waiting=each.waiting,
                command=psql(state, f'RESUME "{each.name}"') if each.paused else "",
            )


def _leftovers(maintenance: Connection, live: str) -> Iterator[LeftoverStatus]:
    for each in leftovers(maintenance, live):
        yield LeftoverStatus(
            name=each.name, oid=each.oid, bytes=each.bytes, command=f"lastgood prune {argument(each.name)}"
        )


def _roles(maintenance: Connection, live: str) -> Iterator[RoleStatus]:
    for each in build_role.orphaned(maintenance, live):
        yield RoleStatus(name=each.name, run=each.mark.run, command=f"lastgood prune {argument(each.name)}")


# The session that holds the advisory lock of deferred work, in the database itself.
_FINISHING = sql.SQL("""
SELECT a.pid, a.usename, a.application_name
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
  AND (l.classid::int8 << 32) | l.objid::int8 = {}""")


def _finishing(target: Target, live: Database, working: str) -> tuple[Finishing, ...]:
    """The lists of deferred tasks in the live database, and what switches in place left to do; empty if it rejects the
    connection. ``working``: the holder of the live database's lock."""
    runs = []
    with suppress(psycopg.Error, Refused), target.at(live.name).connect() as connection:
        for run in lists.runs(connection):
            runs.append(_list_of(connection, run))
        for each in marks.rest(connection):
            at_work = working if each.run in working else ""
            runs.append(
                Finishing(
                    run=each.run,
                    tasks=each.tasks,
                    left=each.tasks,
                    indexes_left=0,
                    foreign_keys_left=len(each.foreign_keys),
                    views_left=len(each.views),
                    checks_left=len(each.checks) + len(each.columns),
                    working=at_work,
                    doing="",
                    commands=() if at_work else (f"lastgood resume {each.run}",),
                )
            )
    return tuple(runs)


def _empty_views(target: Target, live: str) -> tuple[str, ...]:
    with suppress(psycopg.Error, Refused), target.at(live).connect() as connection:
        return tuple(
            sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*view)).as_string(connection)
            for view in marks.empty_views(connection)
        )
    return ()


def _list_of(connection: Connection, run: str) -> Finishing:
    # Here, because few databases have such a list: it is read with the parser of SQL, which takes long to load.
    from lastgood.load.deferred import remainder

    tasks = remainder.read(connection, run)
    left = [task for task in tasks if task.state in ("open", "invalid")]
    indexes = sum(task.later.kind == "index" for task in left)
    row = connection.execute(_FINISHING.format(lists.lock_key(run))).fetchone()
    return Finishing(
        run=run,
        tasks=len(tasks),
        left=len(left),
        indexes_left=indexes,
        foreign_keys_left=len(left) - indexes,
        working=f'"{row[2]}", as "{row[1]}", server process {row[0]}' if row is not None else "",
        doing=activity(connection, row[0]).removeprefix(": ") if row is not None else "",
        commands=() if row is not None else (f"lastgood resume {run}",),
    )


def _origin(mark: Mark) -> str:
    if mark.role == "shadow":
        return f"being built by run {mark.run}"
    until = f"was live until {'undo' if mark.options.get('kind') == 'undo' else 'rollback'} {mark.run}"
    if deployment := mark.options.get(DEPLOYMENT):
        return f"was left by deployment {deployment}; it {until}"
    if deployment := mark.options.get(BROUGHT_BACK):
        return f"{until}, which brought back what deployment {deployment} had left"
    return until
