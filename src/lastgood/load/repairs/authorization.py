"""Grants made by a third role: a dump writes them under SET SESSION AUTHORIZATION, which only superusers may use."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg import sql

from lastgood.dump.statements import Command, Setting
from lastgood.load.repairs.repair import Repair, Rules
from lastgood.postgres.server import Connection

STATES = frozenset({"42501"})
# Undoes SET ROLE of the first repair below, and has no effect otherwise.
BACK = sql.SQL("RESET ROLE")


def returns(command: Command) -> bool:
    """Whether the command ends the session authorization of another role."""
    return isinstance(command.detail, Setting) and command.detail.value is None


def repairs(connection: Connection, command: Command, error: psycopg.Error, rules: Rules) -> Iterator[Repair]:
    """SET ROLE if we are a member of the role. Otherwise the next commands run as the role that restores, and never as
    the role of an earlier command."""
    if not isinstance(command.detail, Setting) or command.detail.value is None:
        return
    role = command.detail.value
    yield Repair(
        sql.SQL("SET ROLE {}").format(sql.Identifier(role)),
        f'only a superuser may set session authorization to "{role}"; the next commands ran after SET ROLE instead',
    )
    yield Repair(
        BACK,
        f'this role is neither a superuser nor a member of "{role}"; the next commands ran as this role',
    )
