"""A scratch database for the definitions of a restore point: on the same server if the role may create a database
there, otherwise on an embedded server of the same major version."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql

from lastgood.errors import LastgoodError, Refused
from lastgood.events import Emit, Note
from lastgood.members import reference
from lastgood.postgres import embedded
from lastgood.postgres.errors import one_line
from lastgood.postgres.server import Connection, Target

PREFIX = "lastgood_definitions_"


@dataclass(frozen=True, slots=True)
class Scratch:
    """An empty database: a session in it, and its target for client programs."""

    connection: Connection
    target: Target


@contextmanager
def scratch(target: Target, major: int, role: str, roles: Collection[str], emit: Emit) -> Iterator[Scratch]:
    """An empty database for a block, in which ``role`` owns what it creates and ``roles`` exist. ``major`` is the
    version of the server of ``target``. Raises Refused if neither kind can be created."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(reference.scratch(target, target.dbname, PREFIX))
        except (LastgoodError, psycopg.Error) as error:
            why = one_line(error)
        else:
            yield Scratch(connection, target.at(connection.info.dbname))
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
        of_role = server.target("definitions", user=role)
        yield Scratch(stack.enter_context(of_role.connect(application_name="lastgood definitions")), of_role)
