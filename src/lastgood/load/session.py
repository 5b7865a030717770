"""One session of a restore: it applies the dump's settings before each command, and runs the command."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from lastgood.dump.script import State
from lastgood.dump.statements import NEXT, Command, Kind, LargeObjectCall
from lastgood.errors import LastgoodError
from lastgood.load.builder import Builder
from lastgood.load.loaded import Loaded
from lastgood.load.repairs import Commands
from lastgood.load.repairs.repair import path_in
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Connection

# The session's identity is set last, in this order.
_IDENTITY = {"session_authorization": 1, "role": 2}
_SET = "SELECT pg_catalog.set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) w (name, value)"
# The settings of a session before it runs anything of the dump.
_OWN = """
SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings
WHERE source = 'session' AND name NOT IN ('role', 'session_authorization')
"""
_PARALLEL = ("max_parallel_maintenance_workers", "max_parallel_workers_per_gather")


def _begins(command: Command) -> bool:
    return command.statement.text[:5].upper() in (b"BEGIN", b"START")


def _needs_block(command: Command) -> bool:
    """Whether a command opens a large object, which its transaction closes at the end."""
    return isinstance(command.detail, LargeObjectCall) and command.detail.function == "lo_open"


class Later(Exception):
    """The command reads an unpopulated view: other commands come first."""


class LoadSession:
    """A connection in autocommit mode whose settings follow the dump's. With a ``builder``, code of the dump may change
    them: they are set again before each piece of work. ``beside_code``: it is the operator's, in a database with code
    of the dump. The dump's search path is in force for its commands only: under it, names in other queries of ours
    could lead to that code."""

    def __init__(
        self,
        connection: Connection,
        commands: Commands,
        loaded: Loaded,
        builder: Builder | None = None,
        *,
        beside_code: bool = False,
    ) -> None:
        self.connection = connection
        self.commands = commands
        self._loaded = loaded
        self._state: dict[str, bytes] = {}
        self._entered: State = ()
        self._pinned: tuple[tuple[str, str], ...] = ()
        self._own: dict[str, str] = {}
        self._parallel = -1
        self._builder = builder
        self._beside_code = beside_code
        self._path: bytes | None = None
        self._begun = False
        self._configured: dict[str, str] = {}
        self._refused: set[bytes] = set()
        self._renewal = b""
        self._composed: dict[tuple[str, tuple[tuple[str, str], ...]], bytes] = {}
        # psycopg's own prepared statements could be replaced by code.
        connection.prepare_threshold = None if builder is not None else connection.prepare_threshold

    def configure(self, settings: Sequence[tuple[str, str]]) -> None:
        """Set the session's own settings, which the dump's settings may override."""
        self._configured.update(settings)
        names, values = [name for name, _ in settings], [value for _, value in settings]
        self.connection.execute(_SET, [names, values])

    def parallel(self, processes: int) -> None:
        """Set the number of additional processes that the server may use for the next command."""
        if processes != self._parallel:
            self.configure([(name, str(processes)) for name in _PARALLEL])
            self._parallel = processes

    def pin(self, settings: tuple[tuple[str, str], ...]) -> None:
        """Replace the dump's settings by ``settings``, until ``enter`` is called again."""
        if self._builder is not None:
            self._entered = ()
            self.connection.execute(b"; ".join([self._all_own(), self._setting(settings)]))
        elif self._pinned is not settings:
            self.enter(())
            self._remember(name for name, _ in settings)
            self.configure(settings)
            self._pinned = settings

    def enter(self, state: State) -> None:
        """Apply the settings of ``state``; all others return to the session's own values."""
        if self._builder is not None:
            self._renew(state)
            return
        if self._beside_code:
            self._path = path_in(state)
            state = tuple(item for item in state if item[0] != "search_path")
        if state is self._entered and not self._pinned:
            return
        self._entered = state
        wanted = {name: command.statement.text for name, command in state}
        if wanted == self._state and not self._pinned:
            return
        if not self._state.keys().isdisjoint(_IDENTITY):
            # The current role may lack the privilege for the other settings.
            self.connection.execute("RESET SESSION AUTHORIZATION; RESET ROLE")
        gone = {name for name in self._state if name not in wanted} | {name for name, _ in self._pinned}
        if own := [(name, self._own[name]) for name in gone if name in self._own]:
            self.configure(own)
        kept = {} if self._pinned else self._state
        commands = [
            command
            for name, command in sorted(state, key=lambda item: _IDENTITY.get(item[0], 0))
            if kept.get(name) != command.statement.text or name in _IDENTITY
        ]
        self._remember(wanted)
        self._state, self._pinned = wanted, ()
        try:
            if commands:
                self.connection.execute(NEXT.join(command.statement.text for command in commands))
        except psycopg.Error:
            # All of them failed as one message: run them one by one.
            for command in commands:
                self.run(command)

    def _renew(self, state: State) -> None:
        """Set all settings again: code may have changed any, and with it the meaning of the next commands."""
        self._entered = state
        texts = [each.statement.text for name, each in state if name not in _IDENTITY]
        whole = self._all_own()
        self._renewal = NEXT.join([whole, *(text for text in texts if text not in self._refused)])
        try:
            self.connection.execute(self._renewal)
        except psycopg.Error:
            self.connection.execute(whole)
            for name, each in state:
                text = each.statement.text
                if name not in _IDENTITY and text not in self._refused and not self._accepts(each):
                    self._refused.add(text)
                    self.run(each)
            self._renewal = NEXT.join([whole, *(text for text in texts if text not in self._refused)])

    def _all_own(self) -> bytes:
        """The statements that undo all settings but the session's own."""
        if not self._begun:
            rows = self.connection.execute(_OWN).fetchall()
            self._configured = {**dict(rows), **self._configured}
            self._begun = True
        return b"RESET ALL; " + self._setting(tuple(self._configured.items()))

    def _setting(self, settings: tuple[tuple[str, str], ...]) -> bytes:
        """The statement that sets these settings, composed once: a load of many tables sends it for each of them."""
        key = (self.connection.info.encoding, settings)
        if key not in self._composed:
            calls = sql.SQL(", ").join(
                sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(name), sql.Literal(value))
                for name, value in settings
            )
            self._composed[key] = b"SELECT " + calls.as_bytes(self.connection)
        return self._composed[key]

    def _accepts(self, setting: Command) -> bool:
        try:
            self.connection.execute(setting.statement.text)
        except psycopg.Error:
            return False
        return True

    def _remember(self, names: Iterable[str]) -> None:
        """Record the session's own values of settings that change for the first time."""
        new = [name for name in names if name not in self._own and name not in _IDENTITY]
        if new:
            query = "SELECT name, pg_catalog.current_setting(name, true) FROM unnest(%s::text[]) name"
            found = self.connection.execute(query, [new]).fetchall()
            self._own.update((name, value) for name, value in found if value is not None)

    def run(self, command: Command) -> None:
        """Run one command. A refusal that a rule allows, and a repair, are recorded; raises Later for a view that waits
        for another, and Failed for any other error."""
        if not self.commands.run(self.connection, command, self._entered, self._path):
            raise Later
        self._loaded.count(commands=1)

    def run_data(self, commands: Iterable[Command]) -> None:
        """Run commands that are data, in the transaction blocks of the dump.

        A block around more than data (a whole dump, for example) is ignored, because other sessions run the rest. Calls
        that need a block get their own, which ends with the data.
        """
        begin = None
        inside = False
        for command in commands:
            if self._builder is not None and self._builder.keep(command):
                continue
            if command.kind is Kind.TRANSACTION:
                if _begins(command):
                    begin = command
                    continue
                begin = None
                if inside:
                    self.run(command)
                    inside = False
                continue
            if begin is None and not inside and _needs_block(command):
                self.connection.execute("BEGIN")
                inside = True
            elif begin is not None and not inside:
                self.run(begin)
                inside = True
            begin = None
            self.run(command)
        if inside:
            self.connection.execute("COMMIT")

    def run_together(self, commands: Sequence[Command]) -> None:
        """Run several commands: in one message, or in halves if one of them fails."""
        if len(commands) > 1:
            if self.tries(commands):
                self._loaded.count(commands=len(commands))
                return
            middle = len(commands) // 2
            pieces = [commands[:middle], commands[middle:]]
        else:
            pieces = [commands]
        for number, some in enumerate(pieces):
            if self._builder is not None and number:
                self._renew(self._entered)
            if len(some) == 1:
                self.run(some[0])
            else:
                self.run_together(some)

    def tries(self, commands: Sequence[Command]) -> bool:
        """Run several commands in one message. False: one of them failed, and nothing was done."""
        between = (self._renewal,) if self._builder is not None and self._builder.renews else ()
        return self.commands.run_together(self.connection, commands, self._path, between)

    @contextmanager
    def errors_at(self, line: int, named: str, context: server_errors.Context = "any") -> Iterator[None]:
        """Turn a server error into an error with its place in the dump."""
        try:
            yield
        except psycopg.Error as error:
            raise self.failed(error, line, named, context) from error

    def failed(
        self,
        error: psycopg.Error,
        line: int,
        named: str,
        context: server_errors.Context = "any",
        offset: int | None = None,
    ) -> LastgoodError:
        """The error to raise for a server error."""
        return self.commands.failed(error, line, named, context=context, offset=offset)
