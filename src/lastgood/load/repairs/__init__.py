"""Running a dump's commands: what is tried again, what is left out by rule, what is repaired, and what stops a load.

One ``Commands`` is shared by all connections that load one dump. Each kind of repair is a module of its own with one
function, ``repairs``, and a row in ``REPAIRS``.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import psycopg
from psycopg.pq import TransactionStatus

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command, Extension, Kind
from lastgood.errors import Corrupt, Failed, Interrupted, LastgoodError
from lastgood.events import Caution, Emit, silent
from lastgood.load.repairs import authorization, checks, extensions, foreign_keys, options, paths
from lastgood.load.repairs.record import Record, Repaired, place, what
from lastgood.load.repairs.repair import USUAL_PATH, Repair, Rules
from lastgood.members.carry import Carrier
from lastgood.postgres import errors as server_errors
from lastgood.postgres.apply import without_effect
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

__all__ = ["USUAL_PATH", "Commands", "Record", "Repaired", "Rules", "what"]

TRIES = 8
FIRST_WAIT = 0.05  # seconds, doubled with each try, more or less by chance: two that collide must not do so again
WITHOUT_STRICT_SKIPPED = "Without --strict it is left out, and the report lists it."
WITHOUT_STRICT_REPAIRED = "Without --strict it is repaired where that is possible, and the report tells how."
ALLOW_ORPHANS = "Or allow it: with --allow-orphans the key is added NOT VALID."
_CONTEXTS: dict[Kind, server_errors.Context] = {
    Kind.REFRESH: "refresh",
    Kind.FOREIGN_KEY: "constraint",
    Kind.EXTENSION: "extension",
}

# insufficient_privilege, invalid_grant_operation: the object belongs to another role, the platform's own for example.
NOT_OURS_TO_GIVE = frozenset({"42501", "0LP01"})

# What is not sent just as it is, may wait for others, or begins a transaction of its own.
ALONE = frozenset({Kind.EXTENSION, Kind.REFRESH, Kind.SESSION_AUTHORIZATION, Kind.TRANSACTION})

# Which errors of which kinds of commands a repair is for, and who knows it.
Repairer = Callable[[Connection, Command, psycopg.Error, Rules], Iterator[Repair]]
REPAIRS: tuple[tuple[frozenset[str], frozenset[Kind], Repairer], ...] = (
    (paths.STATES, paths.KINDS, paths.repairs),
    (extensions.STATES, frozenset({Kind.EXTENSION}), extensions.repairs),
    (authorization.STATES, frozenset({Kind.SESSION_AUTHORIZATION}), authorization.repairs),
    (foreign_keys.STATES, frozenset({Kind.FOREIGN_KEY}), foreign_keys.repairs),
)


class Commands:
    """Runs the commands of one dump, on any number of connections at the same time; each in autocommit mode.

    ``name`` is the dump's, for messages. ``wait`` lets some seconds pass before a command is tried again.
    """

    def __init__(
        self,
        name: str,
        rules: Rules,
        *,
        emit: Emit = silent,
        cancelled: Callable[[], bool] = lambda: False,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        self.record = Record()
        self._name = name
        self._rules = rules
        self._emit = emit
        self._cancelled = cancelled
        self._wait = wait
        # Two repairs may change the same function: one at a time.
        self._repairing = threading.Lock()
        self._put_off: list[checks.PutOff] = []
        self._computed: frozenset[Relation] = frozenset()
        self.carrier = Carrier(rules.members, lambda named, how: self._repaired(named, how, 0), lenient=rules.lenient)
        self._declared: dict[str, int] = {}  # checks, by their words: where the dump declares them

    def run(self, connection: Connection, command: Command) -> bool:
        """Runs one command. False: it waits for others (a view that reads one without rows); try again after them.

        A refusal that a rule allows is recorded; what can be repaired is repaired and recorded. Raises Failed at
        any other error, with the place in the dump, and at those as well where the rules are strict.
        """
        if self._unwanted(command):
            return True
        text = options.text(command)
        if isinstance(command.detail, Extension):
            text = extensions.text(connection, command, command.detail, self._rules)
        if text is None:
            return True
        self._declare(command)
        for attempt in range(TRIES):
            if self._cancelled():
                raise Interrupted("interrupted while the dump was loaded")
            try:
                with self._noticing(connection, [command]):
                    connection.execute(text)
                if command.kind is Kind.SESSION_AUTHORIZATION and authorization.returns(command):
                    connection.execute(authorization.BACK)
                self._made(connection, command)
                return True
            except psycopg.Error as error:
                if not _try_again(connection, command, error):
                    done = self._settle(connection, command, error)
                    self._made(connection, command)
                    return done
                last = error
            self._wait(FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.5))
        raise self._failed(last, command) from last

    def _made(self, connection: Connection, command: Command) -> None:
        if isinstance(command.detail, Extension):
            self.carrier.early(connection, command.detail.name)

    def run_together(self, connection: Connection, commands: Sequence[Command]) -> bool:
        """Runs several commands in one message and one transaction. False: one of them failed, and nothing was done;
        one by one they will tell which, and what is to be done about it."""
        if not ALONE.isdisjoint(command.kind for command in commands):
            return False
        wanted = [command for command in commands if not self._unwanted(command)]
        for command in wanted:
            self._declare(command)
        try:
            with self._noticing(connection, wanted):
                connection.execute(b";\n".join(text for text in map(options.text, wanted) if text is not None))
        except psycopg.Error:
            return False
        return True

    def _unwanted(self, command: Command) -> bool:
        """Whether the operator chose to leave a command out; it is recorded."""
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
            self.record.pass_over(what(first), warning, first.statement.line)

    def _declare(self, command: Command) -> None:
        for made in command.creates:
            if made.kind in (Kind.CHECK, Kind.DOMAIN_CONSTRAINT):
                self._declared[f"{made.kind} {made.identity}"] = command.statement.line

    def leave_out(self, command: Command, why: str) -> None:
        """Records a command that is not to be run. Raises Failed where the rules are strict."""
        if self._rules.strict:
            where = place(self._name, command.statement.line, command.statement.offset, what(command))
            raise Failed(f"cannot load {where}: it {why}", hint=WITHOUT_STRICT_SKIPPED)
        self.record.skip(command, why)

    def failed(
        self, error: psycopg.Error, line: int, named: str, *, context: server_errors.Context, offset: int | None = None
    ) -> LastgoodError:
        """Our error for a server's, met at a place of the dump; ``offset`` in bytes, where it is known. Corrupt where
        the server found that the rows are not what a dump has."""
        found = server_errors.failed(
            error, f"load {place(self._name, line, offset, named)}", context=context, sqlstate=True
        )
        if context == "copy" and error.sqlstate in server_errors.DAMAGED_ROWS:
            return Corrupt(found.message, hint=found.hint, state=found.state, line=line, offset=offset)
        return found

    def before_rows(self, connection: Connection, rows: Mapping[Relation, int]) -> None:
        """To be called when all tables are made and before the first row is loaded. ``rows``: the tables that the dump
        has rows of, in its order, each with the line where they begin."""
        if self._rules.strict:
            return  # what stands in the way of rows is an error then
        self._make_room(connection, rows)
        self._computed = paths.computed(connection)
        self._put_off = checks.put_off(connection)

    @contextmanager
    def loading(self, connection: Connection, relation: Relation) -> Iterator[None]:
        """What rows of a table need while they are loaded."""
        with paths.under(connection, self._rules.search_path) if relation in self._computed else nullcontext():
            yield

    def _make_room(self, connection: Connection, rows: Mapping[Relation, int]) -> None:
        """Remove the rows that extensions put into their tables themselves, in the reverse of the dump's order: a row
        goes before the one that it references."""
        conditions = extensions.configuration(connection)
        for relation in reversed([relation for relation in rows if relation in conditions]):
            try:
                deleted = extensions.make_room(connection, relation, conditions[relation])
            except psycopg.errors.ForeignKeyViolation:
                continue  # other rows of the extension need them; a duplicate in the dump fails at its key
            if deleted:
                why = f"{counted(deleted, 'row')} of its extension's script were replaced by those of the restore point"
                self._repaired(f"rows of {relation}", why, rows[relation])

    def after_rows(self, connections: Sequence[Connection]) -> None:
        """To be called when all rows are loaded, and best after the indexes: checks look rows up. Not to be called
        while anybody else alters tables; the work is shared out among ``connections``."""
        left, self._put_off = self._put_off, []
        if not left:
            return
        checks.bring_back(connections[0], left)

        def work(connection: Connection) -> None:
            while not self._cancelled():
                try:
                    each = left.pop()
                except IndexError:
                    return
                told = checks.validate(connection, each, self._rules)
                if told is not None:
                    self._repaired(each.what, told, self._declared.get(each.what, 0))

        with ThreadPoolExecutor(len(connections), thread_name_prefix="lastgood-checks") as pool:
            list(pool.map(work, connections))
        if self._cancelled():
            raise Interrupted("interrupted while the dump was loaded")

    def _settle(self, connection: Connection, command: Command, error: psycopg.Error) -> bool:
        """What becomes of a command that failed for good."""
        context = _CONTEXTS.get(command.kind, "any")
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            raise self._failed(error, command) from error  # a block that the dump opened; nothing in it can go on
        if context == "refresh" and server_errors.policy_of(error, context) is server_errors.Policy.REQUEUE:
            return False
        if (
            error.sqlstate in command.optional_sqlstates
            or self._brought_along(connection, command, error)
            or (self._rules.copy and command.kind is Kind.GRANT and error.sqlstate in NOT_OURS_TO_GIVE)
        ):
            if self._rules.strict:
                raise self._failed(error, command, WITHOUT_STRICT_SKIPPED) from error
            self.record.skip(command, server_errors.words(error))
            return True
        done = self._repair(connection, command, error)
        if done is None:
            raise self._stopped(connection, command, error) from error
        self._repaired(what(command), done.why, command.statement.line)
        return True

    def _brought_along(self, connection: Connection, command: Command, error: psycopg.Error) -> bool:
        """Whether an extension made the very object already: pg_dump writes policies of their tables, for one."""
        return (
            error.sqlstate in extensions.EXISTS
            and bool(command.relations)
            and extensions.belongs_to_one(connection, command.relations[0])
        )

    def _repair(self, connection: Connection, command: Command, error: psycopg.Error) -> Repair | None:
        """Does what a repair says; None when there is none that the server takes."""
        if self._rules.strict:
            return None
        with self._repairing:
            for states, kinds, repairs in REPAIRS:
                if error.sqlstate not in states or command.kind not in kinds:
                    continue
                for repair in repairs(connection, command, error, self._rules):
                    try:
                        with connection.transaction():
                            for step in (*repair.before, repair.text, *repair.after):
                                connection.execute(step)
                    except psycopg.Error as again:
                        if server_errors.not_its_own(again):
                            raise self._failed(again, command) from again
                    else:
                        return repair
        return None

    def _repaired(self, named: str, why: str, line: int) -> None:
        if self.record.repair(Repaired(what=named, why=why, line=line)):
            where = f"{named} (line {line}) is not loaded as it stands" if line else named
            self._emit(Caution(f"{where}: {why}"))

    def _stopped(self, connection: Connection, command: Command, error: psycopg.Error) -> LastgoodError:
        """The error of a command that nothing helps, with what the operator may do about it."""
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
        known = any(error.sqlstate in states and command.kind in kinds for states, kinds, _ in REPAIRS)
        return self._failed(error, command, WITHOUT_STRICT_REPAIRED if known and self._rules.strict else "")

    def _failed(self, error: psycopg.Error, command: Command, also: str = "") -> LastgoodError:
        statement = command.statement
        context = _CONTEXTS.get(command.kind, "any")
        failed = self.failed(error, statement.line, what(command), context=context, offset=statement.offset)
        failed.hint = f"{failed.hint} {also}".strip()
        return failed


def _try_again(connection: Connection, command: Command, error: psycopg.Error) -> bool:
    """Whether the very same command may work in a moment. One that failed inside of a block never does."""
    policy = server_errors.policy_of(error, _CONTEXTS.get(command.kind, "any"))
    return policy is server_errors.Policy.RETRY and connection.info.transaction_status is TransactionStatus.IDLE
