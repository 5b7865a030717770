"""Owners other than this role, for the objects that it creates.

ALTER … OWNER TO needs the new owner's privilege to create in the schema, unless a superuser executes it. The role that
owns a table today may have lost it since, and has never had it in a staging schema."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg import sql

from lastgood.dump.statements import Command, Kind
from lastgood.postgres.access.grants import Operator
from lastgood.postgres.server import Connection


def others(connection: Connection, commands: Iterable[Command]) -> frozenset[str]:
    """The owners in these commands that this role may give objects to, without itself; none for a superuser."""
    operator = Operator.read(connection)
    if operator.superuser:
        return frozenset()
    named = {role for command in commands if command.kind is Kind.OWNER for role in command.roles}
    return operator.settable & (named - {operator.name})


def admit(connection: Connection, schemas: Iterable[str], owners: Iterable[str]) -> None:
    """Let the owners create in the schemas."""
    _execute(connection, sql.SQL("GRANT CREATE ON SCHEMA {} TO {}"), schemas, owners)


def dismiss(connection: Connection, schemas: Iterable[str], owners: Iterable[str]) -> None:
    """The owners may no longer create in the schemas."""
    _execute(connection, sql.SQL("REVOKE CREATE ON SCHEMA {} FROM {}"), schemas, owners)


def _execute(connection: Connection, template: sql.SQL, schemas: Iterable[str], owners: Iterable[str]) -> None:
    on = sql.SQL(", ").join(map(sql.Identifier, schemas))
    for owner in sorted(owners):
        connection.execute(template.format(on, sql.Identifier(owner)))
