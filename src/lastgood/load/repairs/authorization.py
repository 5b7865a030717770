"""Grants that a third role made: a dump writes them in that role's name, which only a superuser can take."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from lastgood.dump.statements import Command, Setting
from lastgood.load.repairs.repair import Repair, Rules
from lastgood.postgres.server import Connection

STATES = frozenset({"42501"})
# Whoever cannot take a name has put no role aside before; whoever did so as a member must give it back.
BACK = sql.SQL("RESET ROLE")


def returns(command: Command) -> bool:
    """Whether the command ends what was done in another role's name."""
    return isinstance(command.detail, Setting) and command.detail.value is None


def repairs(connection: Connection, command: Command, error: psycopg.Error, rules: Rules) -> Iterator[Repair]:
    """The role itself where we are a member of it; else what follows is done by whoever restores, and never by the
    role that an earlier command took."""
    if not isinstance(command.detail, Setting) or command.detail.value is None:
        return
    role = command.detail.value
    yield Repair(
        sql.SQL("SET ROLE {}").format(sql.Identifier(role)),
        f'only a superuser takes the name of "{role}"; what follows was done as a member of it',
    )
    yield Repair(
        BACK,
        f'this role can neither take the name of "{role}" nor is it a member of it; what follows was done by this '
        "role itself",
    )
