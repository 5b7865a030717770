"""The creation of a restore point's definitions in a scratch database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress

import psycopg
from psycopg import sql

from lastgood.dump.script import State
from lastgood.dump.statements import Kind
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Interrupted, LastgoodError
from lastgood.in_place.definitions import owners
from lastgood.in_place.definitions.dumped import ATTRIBUTES
from lastgood.in_place.definitions.sorting import Placed, is_tie, placed
from lastgood.load.builder import Builder, is_handed
from lastgood.load.hand_over import give_rest
from lastgood.load.session import Later, LoadSession

TOGETHER = 100
# Commands without effect on definitions, and those that need rows.
_LEFT_OUT = frozenset(
    {
        Kind.SEQUENCE_POSITION,
        Kind.STATISTICS_CALL,
        Kind.UPKEEP,
        Kind.REFRESH,
        Kind.INSERT,
        Kind.LARGE_OBJECT,
        Kind.USER_MAPPING,
        Kind.SUBSCRIPTION,
    }
)
_IDENTITIES = frozenset({"session_authorization", "role"})
# Ties whose definition holds expressions.
_ON_OTHERS = frozenset({Kind.TRIGGER, Kind.POLICY, Kind.RULE, Kind.PUBLICATION})


class Recreation:
    """The creation of a restore point's definitions in an empty database. ``session`` executes what may run code of the
    restore point, ``operator`` the rest: they are the same unless a role without rights builds (``apart``)."""

    def __init__(
        self,
        session: LoadSession,
        operator: LoadSession,
        schemas: Collection[str],
        cancelled: Callable[[], bool],
        apart: Builder | None = None,
    ) -> None:
        self._session = session
        self._operator = operator
        self._apart = apart
        self._schemas = schemas
        self._cancelled = cancelled
        self._handed: list[Placed] = []
        self._new_owners: frozenset[str] = frozenset()
        self.not_created: list[str] = []
        self.unpopulated: set[str] = set()

    def create(
        self, every: Sequence[Placed], extensions: Iterable[sql.Composed] = (), lent: DumpSummary | None = None
    ) -> None:
        """Create ``every`` definition of the schemas that go back, and of the others what the server accepts.
        ``extensions`` and the definitions ``lent``: what the restore point needs and lacks."""
        others = list(placed(lent)) if lent is not None else []
        for command in extensions:
            with suppress(psycopg.Error):  # the definition that needs it fails
                self._operator.connection.execute(command)
        for each in (*others, *every):
            if each.command.kind is Kind.SCHEMA or (self._apart is not None and each.command.kind is Kind.EXTENSION):
                self._run([each], self._operator)
        connection = self._operator.connection
        if self._apart is not None:
            self._apart.admit(connection)
        for each in others:
            if each.command.kind not in _LEFT_OUT | ATTRIBUTES | {Kind.SCHEMA} and not is_tie(each, ()):
                self._run([each])
        self._new_owners = owners.others(
            connection, (each.command for each in every if self._own(each) and self._wanted(each))
        )
        owners.admit(connection, self._schemas, self._new_owners)
        self._run_all(each for each in every if self._wanted(each) and not self._keep(each))
        self._refresh(each for each in every if each.command.kind is Kind.REFRESH and self._own(each))
        ties = [each for each in every if is_tie(each, self._schemas)]
        if self._apart is None:
            # Before the restore point's own privileges on schemas, which are ties.
            owners.dismiss(connection, self._schemas, self._new_owners)
        else:
            forcing = [each for each in self._handed if each.command.kind is Kind.ROW_SECURITY]
            self._handed = [each for each in self._handed if each.command.kind is not Kind.ROW_SECURITY]
            for each in forcing:  # no rows are read any more
                self._run([each])
            self._handed += [each for each in ties if each.command.kind not in _ON_OTHERS]
            ties = [each for each in ties if each.command.kind in _ON_OTHERS]
        self._tie(ties)

    def hand_over(self) -> None:
        """Give the objects their owners and grants, when the login of the role that built them has ended."""
        assert self._apart is not None
        self._run_all((each for each in self._handed if not is_tie(each, self._schemas)), self._operator)
        self._operator.enter(())
        for command, _ in self._apart.handed:
            try:
                self._operator.run(command)
            except LastgoodError as error:
                if command.kind not in (Kind.PUBLICATION, Kind.COMMENT):
                    raise
                self.not_created.append(error.message.removeprefix("cannot load "))
        connection = self._operator.connection
        give_rest(connection, self._apart.role.name)
        connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(self._apart.role.name)))
        owners.dismiss(connection, self._schemas, self._new_owners)
        self._tie((each for each in self._handed if is_tie(each, self._schemas)), self._operator)

    def _keep(self, each: Placed) -> bool:
        """Whether a command waits for the hand-over, or was executed before all others."""
        if self._apart is None:
            return False
        if each.command.kind is Kind.EXTENSION:
            return True
        if is_handed(each.command):
            self._handed.append(each)
            return True
        return False

    def _wanted(self, each: Placed) -> bool:
        kind = each.command.kind
        if kind in _LEFT_OUT or kind is Kind.SCHEMA or is_tie(each, self._schemas):
            return False
        return self._own(each) or kind not in ATTRIBUTES

    def _own(self, each: Placed) -> bool:
        return each.schema in self._schemas

    def _alike(self, one: Placed, other: Placed) -> bool:
        return one.step.state is other.step.state and self._own(one) == self._own(other)

    def _run_all(self, every: Iterable[Placed], session: LoadSession | None = None) -> None:
        """Run commands in order, many in one message."""
        waiting: list[Placed] = []
        for each in every:
            if waiting and not (self._alike(waiting[0], each) and len(waiting) < TOGETHER):
                self._run(waiting, session)
                waiting = []
            waiting.append(each)
        self._run(waiting, session)

    def _run(self, some: Sequence[Placed], session: LoadSession | None = None) -> None:
        session = session or self._session
        if self._cancelled():
            raise Interrupted("interrupted while the definitions were rewritten")
        if not some:
            return
        commands = [each.command for each in some]
        session.enter(_without_identity(some[0].step.state))
        if self._own(some[0]):
            session.run_together(commands)
            return
        if len(commands) > 1 and session.tries(commands):
            return
        for command in commands:
            try:
                session.run(command)
            except Interrupted:
                raise
            except LastgoodError as error:
                self.not_created.append(error.message.removeprefix("cannot load "))

    def _tie(self, tied: Iterable[Placed], session: LoadSession | None = None) -> None:
        """Make the ties, so that the server can describe them; default privileges last, because they would change
        privileges of later objects. A tie that refers to the schemas that go back must not be missing."""
        for each in sorted(tied, key=lambda each: each.command.kind is Kind.DEFAULT_PRIVILEGES):
            if each.command.kind in (Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE):
                continue
            try:
                (session or self._session).run(each.command)
            except Interrupted:
                raise
            except LastgoodError as error:
                if each.command.kind in (Kind.TRIGGER, Kind.POLICY) and each.refers_to(self._schemas):
                    raise
                self.not_created.append(error.message.removeprefix("cannot load "))

    def _refresh(self, views: Iterable[Placed]) -> None:
        """Populate materialized views as far as possible: the definition of one includes whether it is populated."""
        for each in views:
            try:
                self._session.run(each.command)
            except (LastgoodError, Later):
                self.unpopulated.add(str(each.command.relations[0]))


def _without_identity(state: State) -> State:
    return tuple(each for each in state if each[0] not in _IDENTITIES)
