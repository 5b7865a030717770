"""A scratch database for the definitions of a restore point: on the same server if the role may create a database
there, otherwise on an embedded server of the same major version."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial

import psycopg
from psycopg import sql

from lastgood.errors import LastgoodError, Refused
from lastgood.events import Caution, Emit, Note
from lastgood.load.builder import Builder
from lastgood.members import reference
from lastgood.postgres import database, embedded
from lastgood.postgres.errors import one_line
from lastgood.postgres.roles import build_role, lent_role
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.transactions import ASYNCHRONOUS

PREFIX = "lastgood_definitions_"


@dataclass(frozen=True, slots=True)
class Confinement:
    """Who executes code of a restore point of run ``run``: a role made for it, or that of ``build_as``. On an embedded
    server too, whose superuser has the rights of the operator's user of the operating system."""

    run: str
    build_as: Target | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Scratch:
    """An empty database: a session in it, and its target for client programs. ``builder``: the role that executes what
    may run code of the restore point, if that is not the session's; ``maintenance`` is a session outside then."""

    connection: Connection
    target: Target
    builder: Builder | None = None
    maintenance: Connection | None = None


@contextmanager
def scratch(
    target: Target,
    major: int,
    role: str,
    roles: Collection[str],
    emit: Emit,
    confinement: Confinement | None = None,
    *,
    removal: ExitStack,
) -> Iterator[Scratch]:
    """An empty database for a block, in which ``role`` owns what it creates and ``roles`` exist. ``major`` is the
    version of the server of ``target``. ``confinement``: who executes code of the restore point, None if it has none or
    is trusted. ``removal``: with its end the database is dropped at the latest, after a block without an error; the
    role is gone with the block. Raises Refused if neither kind can be created, NoSecondLogin."""
    with ExitStack() as stack:
        maintenance = None
        of_role = ExitStack()
        if confinement is not None:
            maintenance = stack.enter_context(database.connect_maintenance(target, target.dbname))
            maintenance.execute(ASYNCHRONOUS)
            # After an error, when the database is dropped: the role owns nothing then.
            stack.enter_context(of_role)
            of_role.callback(build_role.end, maintenance, target, build_role.name_of(confinement.run))
        try:
            connection = stack.enter_context(reference.scratch(target, target.dbname, PREFIX))
        except (LastgoodError, psycopg.Error) as error:
            why = one_line(error)
        else:
            own = target.at(connection.info.dbname)
            if confinement is None or maintenance is None:
                yield Scratch(connection, own)
            else:
                _end_left(maintenance, target)
                yield _confined(connection, own, maintenance, confinement, confinement.build_as, target.dbname)
            of_role.close()
            _remove_meanwhile(stack.pop_all(), removal, emit)
            return
        if embedded.programs(major) is None:
            raise Refused(
                f"cannot rewrite the definitions of the restore point: {why}; PostgreSQL {major} is not installed here",
                hint="Grant the role CREATEDB, or install the programs of this PostgreSQL version here.",
            )
        emit(Note(f"the definitions are rewritten on an embedded server: {why}"))
        server = stack.enter_context(embedded.EmbeddedServer(major))
        with server.target("postgres").connect() as maintenance:
            for name in sorted({role, *roles} - {embedded.SUPERUSER}):
                maintenance.execute(sql.SQL("CREATE ROLE {} SUPERUSER LOGIN").format(sql.Identifier(name)))
            maintenance.execute("CREATE DATABASE definitions TEMPLATE template0")
        own = server.target("definitions", user=role)
        connection = stack.enter_context(own.connect(application_name="lastgood definitions"))
        if confinement is None:
            yield Scratch(connection, own)
            return
        maintenance = stack.enter_context(server.target("postgres", user=role).connect())
        yield _confined(connection, own, maintenance, confinement, None, target.dbname)


def _remove_meanwhile(scratch: ExitStack, removal: ExitStack, emit: Emit) -> None:
    """Drop the database while the caller continues, at the latest with the end of ``removal``."""

    def remove() -> None:
        try:
            scratch.close()
        except (LastgoodError, psycopg.Error) as error:
            emit(Caution(f"{one_line(error)}; lastgood prune drops it"))

    removal.enter_context(ThreadPoolExecutor(1, "lastgood-scratch")).submit(remove)


def _end_left(maintenance: Connection, target: Target) -> None:
    """End the roles of killed processes, whose databases are gone."""
    for each in build_role.orphaned(maintenance, target.dbname):
        if each.mark.database.startswith(PREFIX):
            with suppress(LastgoodError, psycopg.Error):
                build_role.end(maintenance, target, each.name)


def _confined(
    connection: Connection,
    own: Target,
    maintenance: Connection,
    confinement: Confinement,
    build_as: Target | None,
    live: str,
) -> Scratch:
    """The same database with a role that builds in it."""
    run, operator = confinement.run, own.at(maintenance.info.dbname)
    role = lent_role.role_for(maintenance, operator, build_as, run=run, live=live, database=own.dbname)

    @contextmanager
    def opened(of: Target, purpose: str) -> Iterator[Connection]:
        with of.connect(application_name=f"lastgood {purpose}") as connection:
            connection.execute(ASYNCHRONOUS)
            yield connection

    builder = Builder(role, partial(opened, role.target), partial(opened, own))
    return Scratch(connection, own, builder, maintenance)
