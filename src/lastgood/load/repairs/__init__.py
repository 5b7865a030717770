"""Execution of a dump's commands: retries, omissions by rule, repairs, and errors that stop a load.

One ``Commands`` is shared by all connections that load one dump. Each kind of repair is a module with one function,
``repairs``, and a row in ``REPAIRS``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import Relation
from lastgood.dump.rulings.objects import publication
from lastgood.dump.script import State
from lastgood.dump.statements import NEXT, Command, Extension, Kind
from lastgood.errors import Corrupt, Failed, LastgoodError
from lastgood.events import Caution
from lastgood.load.repairs import authorization, checks, extensions, foreign_keys, paths
from lastgood.load.repairs.repair import (
    INSUFFICIENT_PRIVILEGE,
    USUAL_PATH,
    Record,
    Repair,
    Repaired,
    Rules,
    denied,
    in_path,
    place,
    text_to_send,
    under,
    what,
)
from lastgood.members.carry import Carrier
from lastgood.postgres import errors as server_errors
from lastgood.postgres.apply import without_effect
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

if TYPE_CHECKING:
    from lastgood.load.builder import Builder  # it imports this package

__all__ = ["USUAL_PATH", "Commands", "Record", "Repaired", "Rules", "what"]

TRIES = 8
FIRST_WAIT = 0.05  # seconds, doubled with each try, randomized: two commands that collide must not do so again
WITHOUT_STRICT_SKIPPED = "Without --strict it is left out, and the report lists it."
WITHOUT_STRICT_REPAIRED = "Without --strict it is repaired if possible, and the report lists the repair."
ALLOW_ORPHANS = "Or allow it: with --allow-orphans the key is added NOT VALID."
_CONTEXTS: dict[Kind, server_errors.Context] = {
    Kind.REFRESH: "refresh",
    Kind.FOREIGN_KEY: "constraint",
    Kind.EXTENSION: "extension",
}

# insufficient_privilege, invalid_grant_operation: the object belongs to another role, such as the platform's own.
NOT_GRANTABLE = frozenset({"42501", "0LP01"})

# Only a superuser may publish all tables, or a schema; the rest of such a publication has nothing to alter.
NOT_PUBLISHABLE = frozenset({"42501", "42704"})
# feature_not_supported: a sequence of a column has the owner of its table, which was left out for the same reason.
LINKED_SEQUENCE = "0A000"
_LEFT_OUT_OF_A_COPY = {Kind.GRANT: NOT_GRANTABLE, Kind.PUBLICATION: NOT_PUBLISHABLE}

# Commands that are not sent unchanged, may wait for others, or begin a transaction of their own.
ALONE = frozenset({Kind.EXTENSION, Kind.REFRESH, Kind.SESSION_AUTHORIZATION, Kind.TRANSACTION})

# The errors and kinds of commands of each repair, and its function.
Repairer = Callable[[Connection, Command, psycopg.Error, Rules], Iterator[Repair]]
REPAIRS: tuple[tuple[frozenset[str], frozenset[Kind], Repairer], ...] = (
    (paths.STATES, paths.KINDS, paths.repairs),
    (extensions.STATES, frozenset({Kind.EXTENSION}), extensions.repairs),
    (authorization.STATES, frozenset({Kind.SESSION_AUTHORIZATION}), authorization.repairs),
    (foreign_keys.STATES, frozenset({Kind.FOREIGN_KEY}), foreign_keys.repairs),
)


class Commands:
    """The executor of one dump's commands, on any number of connections at the same time, each in autocommit mode.

    ``name`` is the dump's, for messages. ``wait`` waits some seconds before a command is retried. ``builder``: who runs
    the commands that the session may not; None if the session is the operator's.
    """

    def __init__(
        self,
        name: str,
        rules: Rules,
        context: Context = BACKGROUND,
        *,
        wait: Callable[[float], object] = time.sleep,
        builder: Builder | None = None,
    ) -> None:
        self.record = Record()
        self._builder = builder
        self._name = name
        self._rules = rules
        self._context = context
        self._wait = wait
        # Two repairs may change the same function: one at a time.
        self._repairing = threading.Lock()
        self._dropped: list[checks.DroppedCheck] = []
        self._computed: frozenset[Relation] = frozenset()
        self.carrier = Carrier(
            rules.members,
            lambda named, how: self._repaired(named, how, 0),
            lenient=rules.lenient,
            confined=rules.confined,
        )
        self._declared: dict[str, int] = {}  # checks, as described in messages → the line that declares them

    def run(self, connection: Connection, command: Command, state: State = (), path: bytes | None = None) -> bool:
        """Run one command. False: it waits for others (it refreshes a view that reads an unpopulated one); retry after
        them. ``state``: the dump's settings. ``path``: the statement that sets the search path for this command only.

        A refusal that a rule allows is recorded; a command that can be repaired is repaired and recorded. Raises
        Failed, with the place in the dump, at any other error; under strict rules also at these.
        """
        if self._unwanted(command):
            return True
        text = text_to_send(command)
        if isinstance(command.detail, Extension):
            text = extensions.text(connection, command, command.detail, self._rules)
        if text is None:
            return True
        self._declare(command)
        for attempt in range(TRIES):
            self._context.check("interrupted while the dump was loaded")
            try:
                with self._noticing(connection, [command]):
                    self._send(connection, [command], [text], path)
                if command.kind is Kind.SESSION_AUTHORIZATION and authorization.returns(command):
                    connection.execute(authorization.BACK)
                self._made(connection, command)
                return True
            except psycopg.Error as error:
                if not _try_again(connection, command, error):
                    if self._builder is not None and self._builder.takes(command, state, error):
                        return True
                    done = self._settle(connection, command, error, path)
                    self._made(connection, command)
                    return done
                last = error
            self._wait(FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.5))
        raise self._failed(last, command) from last

    def _made(self, connection: Connection, command: Command) -> None:
        if isinstance(command.detail, Extension):
            self.carrier.early(connection, command.detail.name)

    def run_together(
        self,
        connection: Connection,
        commands: Sequence[Command],
        path: bytes | None = None,
        between: Sequence[bytes] = (),
    ) -> bool:
        """Run several commands in one message and one transaction, with other statements ``between`` them. False: one
        of them failed, and nothing was done; run them one by one to find and handle it. ``path``: as for ``run``."""
        if not ALONE.isdisjoint(command.kind for command in commands):
            return False
        wanted = [command for command in commands if not self._unwanted(command)]
        for command in wanted:
            self._declare(command)
        try:
            with self._noticing(connection, wanted):
                self._send(connection, wanted, map(text_to_send, wanted), path, between)
        except psycopg.Error:
            return False
        return True

    def _send(
        self,
        connection: Connection,
        commands: Iterable[Command],
        texts: Iterable[bytes | None],
        path: bytes | None,
        between: Sequence[bytes] = (),
    ) -> None:
        """Execute commands in one message, and note what they create where code could change it afterwards."""
        definitions = self._builder.definitions if self._builder is not None else None
        pieces = [
            text + (definitions.asking(command, connection) if definitions is not None else b"")
            for command, text in zip(commands, texts, strict=True)
            if text is not None
        ]
        cursor = connection.execute(under(path, NEXT.join([b"", *between, b""]).join(pieces)) if pieces else b"")
        if definitions is not None:
            definitions.note(cursor)

    def _unwanted(self, command: Command) -> bool:
        """Whether an option excludes a command; it is recorded."""
        if why := self._rules.unwanted(command.kind):
            self.record.skip(command, why, str(command.kind))
        return bool(why)

    @contextmanager
    def _noticing(self, connection: Connection, commands: Sequence[Command]) -> Iterator[None]:
        """Record each GRANT and REVOKE that had no effect: of an object that another role owns, the server warns only.
        Raises Failed at one where the rules are strict."""
        first = next((command for command in commands if command.kind is Kind.GRANT), None)
        if first is None:
            yield
            return
        with without_effect(connection) as warnings:
            yield
        for _, warning in warnings:
            if self._rules.strict:
                where = place(self._name, first.statement.line, first.statement.offset, what(first))
                raise Failed(f"cannot load {where}: {warning}", hint=WITHOUT_STRICT_SKIPPED)
            self.record.add_skipped(what(first), warning, first.statement.line)

    def _declare(self, command: Command) -> None:
        for made in command.creates:
            if made.kind in (Kind.CHECK, Kind.DOMAIN_CONSTRAINT):
                self._declared[f"{made.kind} {made.identity}"] = command.statement.line

    def leave_out(self, command: Command, why: str) -> None:
        """Record a command that must not run. Raises Failed under strict rules."""
        if self._rules.strict:
            where = place(self._name, command.statement.line, command.statement.offset, what(command))
            raise Failed(f"cannot load {where}: it {why}", hint=WITHOUT_STRICT_SKIPPED)
        self.record.skip(command, why)

    def failed(
        self, error: psycopg.Error, line: int, named: str, *, context: server_errors.Context, offset: int | None = None
    ) -> LastgoodError:
        """The error for a server error at a place of the dump; ``offset`` in bytes, if it is known. Corrupt if the
        server found rows that no dump would have."""
        found = server_errors.failed(
            error, f"load {place(self._name, line, offset, named)}", context=context, sqlstate=True
        )
        if context == "copy" and error.sqlstate in server_errors.DAMAGED_ROWS:
            return Corrupt(found.message, hint=found.hint, state=found.state, line=line, offset=offset)
        return found

    def before_rows(self, connection: Connection, rows: Mapping[Relation, int]) -> None:
        """Prepare the tables; to be called when all of them exist and before the first row is loaded. ``rows``: the
        tables of the dump's rows, in its order, each with the line where the rows begin."""
        if self._rules.strict:
            return  # a check that fails is an error then
        self._make_room(connection, rows)
        self._computed = paths.computed(connection)
        self._dropped = checks.find(connection, self._rules.within)
        checks.drop(connection, self._dropped)

    @contextmanager
    def loading(self, connection: Connection, relation: Relation) -> Iterator[None]:
        """The settings that a table's rows need while they are loaded."""
        with paths.under(connection, self._rules.search_path) if relation in self._computed else nullcontext():
            yield

    def _make_room(self, connection: Connection, rows: Mapping[Relation, int]) -> None:
        """Delete the rows that extension scripts inserted, in the reverse of the dump's order: referencing rows before
        referenced ones."""
        conditions = extensions.configuration(connection)
        for relation in reversed([relation for relation in rows if relation in conditions]):
            try:
                deleted = extensions.make_room(connection, relation, conditions[relation])
            except psycopg.errors.ForeignKeyViolation:
                continue  # other rows of the extension reference them; a duplicate in the dump fails at its key
            if deleted:
                why = f"{counted(deleted, 'row')} of its extension's script were replaced by those of the restore point"
                self._repaired(f"rows of {relation}", why, rows[relation])

    def after_rows(self, connections: Sequence[Connection]) -> None:
        """Restore the checks; to be called when all rows are loaded, preferably after the indexes, because checks may
        query rows. No other session may alter tables meanwhile; the work is divided among ``connections``."""
        left, self._dropped = self._dropped, []
        if not left:
            return
        checks.add_again(connections[0], left)

        def work(connection: Connection) -> None:
            while not self._context.cancelled():
                try:
                    each = left.pop()
                except IndexError:
                    return
                remark = checks.validate(connection, each, self._rules)
                if remark is not None:
                    self._repaired(each.what, remark, self._declared.get(each.what, 0))

        with ThreadPoolExecutor(len(connections), thread_name_prefix="lastgood-checks") as pool:
            list(pool.map(work, connections))
        self._context.check("interrupted while the dump was loaded")

    def _settle(self, connection: Connection, command: Command, error: psycopg.Error, path: bytes | None) -> bool:
        """Skip, repair or defer a command that failed permanently. False: retry it later."""
        context = _CONTEXTS.get(command.kind, "any")
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            raise self._failed(error, command) from error  # a block that the dump opened: nothing in it can continue
        if context == "refresh" and server_errors.policy_of(error, context) is server_errors.ErrorPolicy.REQUEUE:
            return False
        brought_along = self._brought_along(connection, command, error)
        if brought_along and command.kind is Kind.PUBLICATION:
            return True  # restored with the extension already, before the hand-over
        if (
            error.sqlstate in command.optional_sqlstates
            or brought_along
            or (command.kind is Kind.OWNER and error.sqlstate == LINKED_SEQUENCE)
            or (self._rules.copy and error.sqlstate in _LEFT_OUT_OF_A_COPY.get(command.kind, ()))
        ):
            if self._rules.strict:
                raise self._failed(error, command, WITHOUT_STRICT_SKIPPED) from error
            named = None
            if command.kind is Kind.PUBLICATION:
                name = publication(command)
                named = f"publication {name}"
                # Without a part it would publish less than the restore point's.
                connection.execute(f"DROP PUBLICATION IF EXISTS {name}".encode())
            self.record.skip(command, server_errors.message_of(error), named)
            return True
        done = self._repair(connection, command, error, path)
        if done is None:
            raise self._stopped(connection, command, error) from error
        self._repaired(what(command), done.why, command.statement.line)
        return True

    def _brought_along(self, connection: Connection, command: Command, error: psycopg.Error) -> bool:
        """Whether an extension has created the object already: pg_dump writes policies of extension tables, for
        example."""
        return (
            error.sqlstate in extensions.EXISTS
            and bool(command.relations)
            and extensions.belongs_to_one(connection, command.relations[0])
        )

    def _repair(
        self, connection: Connection, command: Command, error: psycopg.Error, path: bytes | None
    ) -> Repair | None:
        """Try the repairs; None if the server accepts none."""
        if self._rules.strict:
            return None
        with self._repairing:
            for states, kinds, repairs in REPAIRS:
                if error.sqlstate not in states or command.kind not in kinds:
                    continue
                for repair in repairs(connection, command, error, self._rules):
                    try:
                        with connection.transaction():
                            for step in (*repair.before, *in_path(path, repair.text), *repair.after):
                                connection.execute(step)
                    except psycopg.Error as again:
                        if server_errors.not_caused_by_statement(again):
                            raise self._failed(again, command) from again
                    else:
                        return repair
        return None

    def _repaired(self, named: str, why: str, line: int) -> None:
        if self.record.repair(Repaired(what=named, why=why, line=line)):
            where = f"{named} (line {line}) was not loaded unchanged" if line else named
            self._context.emit(Caution(f"{where}: {why}"))

    def _stopped(self, connection: Connection, command: Command, error: psycopg.Error) -> LastgoodError:
        """The error of a command without a repair, with a hint for the operator."""
        if command.kind is Kind.FOREIGN_KEY and error.sqlstate in foreign_keys.STATES:
            failed = self._failed(error, command, "" if self._rules.strict else ALLOW_ORPHANS)
            key = foreign_keys.orphans(connection, command)
            if key is not None:
                failed.message += f"; {foreign_keys.counted(key)}"
            return failed
        if error.sqlstate == extensions.NOT_IMMUTABLE and (functions := extensions.not_immutable(connection, command)):
            failed = self._failed(error, command)
            failed.hint = extensions.MAKE_IMMUTABLE.format(
                "; ".join(f"ALTER FUNCTION {function} IMMUTABLE" for function in functions)
            )
            return failed
        if self._builder is not None and error.sqlstate == INSUFFICIENT_PRIVILEGE:
            failed = self._failed(error, command)
            failed.hint = denied(error)
            return failed
        known = any(error.sqlstate in states and command.kind in kinds for states, kinds, _ in REPAIRS)
        return self._failed(error, command, WITHOUT_STRICT_REPAIRED if known and self._rules.strict else "")

    def _failed(self, error: psycopg.Error, command: Command, also: str = "") -> LastgoodError:
        statement = command.statement
        context = _CONTEXTS.get(command.kind, "any")
        failed = self.failed(error, statement.line, what(command), context=context, offset=statement.offset)
        failed.hint = f"{failed.hint} {also}".strip()
        return failed


def _try_again(connection: Connection, command: Command, error: psycopg.Error) -> bool:
    """Whether the same command may succeed after a moment. Inside a failed block it never does."""
    policy = server_errors.policy_of(error, _CONTEXTS.get(command.kind, "any"))
    return policy is server_errors.ErrorPolicy.RETRY and connection.info.transaction_status is TransactionStatus.IDLE
