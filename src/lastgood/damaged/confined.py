"""The operator's part of a best-effort load by a role without rights (see ADR 31).

Extensions come first, owners and grants when the role's login has ended, and event triggers last. Extensions that
follow other objects are left out: code could prepare for their scripts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lastgood.dump.script import State
from lastgood.dump.statements import Command, Kind, Setting
from lastgood.load import hand_over
from lastgood.load.builder import UNGUARD, Builder, is_handed, is_last
from lastgood.load.repairs.repair import path_in, under
from lastgood.postgres.access import servers_own
from lastgood.postgres.errors import failed
from lastgood.postgres.mark import forget_marks
from lastgood.postgres.roles import build_role
from lastgood.postgres.server import Connection, Target

# Nothing in these runs code, or is there when a script of an extension runs.
_BEFORE_CODE = frozenset({Kind.SETTING, Kind.SCHEMA, Kind.EXTENSION, Kind.COMMENT, Kind.TRANSACTION, Kind.DROP})
TOO_LATE = "an extension that follows other objects is not created: their code could act in its script"


@dataclass(slots=True)
class OperatorsPart:
    """``builder`` executes the rest."""

    builder: Builder
    _path: State = ()
    _admitted: bool = False
    refused: list[tuple[Command, str]] = field(default_factory=list)
    withdrawn: list[servers_own.Right] = field(default_factory=list)

    def takes_over(self, command: Command) -> bool:
        """Whether a command is the operator's; it runs at once, or when all else is done."""
        if isinstance(command.detail, Setting) and command.detail.name == "search_path":
            self._path = (("search_path", command),)
        if is_last(command):
            self.builder.last.append((command, self._path))
        elif is_handed(command):
            self.builder.handed.append((command, self._path))
        elif command.kind is Kind.EXTENSION:
            self._extension(command)
        else:
            if command.kind not in _BEFORE_CODE:
                self.before_code()
            return False
        return True

    def before_code(self) -> None:
        """Admit the role to what extensions made; called before the first command or row that may run code."""
        if not self._admitted:
            self._admitted = True
            with self.builder.operator("admit the role") as connection:
                self.builder.admit(connection)

    def _extension(self, command: Command) -> None:
        if self._admitted:
            self.refused.append((command, TOO_LATE))
            return
        with self.builder.operator("create extensions") as connection:
            self._run(connection, [(command, ())])

    def takes(self, command: Command, error: psycopg.Error) -> bool:
        """Whether the operator runs a command that the role may not."""
        return self.builder.takes(command, self._path, error)

    def hand_over(self, maintenance: Connection, operator: Target) -> None:
        """End the role, and give its objects their owners and grants. Raises CodeActed, Failed."""
        role = self.builder.role
        hand_over.close_unchanged(maintenance, role)
        with self.builder.operator("hand over") as connection:
            for statement in UNGUARD:
                connection.execute(statement)
            hand_over.refuse_changed(connection, self.builder)
            self._run(connection, self.builder.handed)
            if connection.info.parameter_status("is_superuser") == "on":
                self.withdrawn = servers_own.withdraw(connection)
            try:
                hand_over.give_rest(connection, role.name)
                connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role.name)))
                forget_marks(connection)
            except psycopg.Error as error:
                raise failed(error, "give the restored objects to their owners", context="privileges") from error
            self._run(connection, self.builder.last)
        if not role.lent:
            build_role.end(maintenance, operator, role.name)

    def _run(self, connection: Connection, commands: Iterable[tuple[Command, State]]) -> None:
        for command, state in commands:
            try:
                connection.execute(under(path_in(state), command.statement.text))
            except psycopg.Error as error:
                if connection.closed:
                    raise
                if error.sqlstate not in command.optional_sqlstates:
                    self.refused.append((command, error.diag.message_primary or type(error).__name__))
