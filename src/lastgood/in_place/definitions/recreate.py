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
from lastgood.load.session import Later, Session

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


class Builder:
    """The creation of a restore point's definitions in an empty database."""

    def __init__(self, session: Session, schemas: Collection[str], cancelled: Callable[[], bool]) -> None:
        self._session = session
        self._schemas = schemas
        self._cancelled = cancelled
        self.not_created: list[str] = []
        self.unpopulated: set[str] = set()

    def lend(self, extensions: Iterable[sql.Composed], definitions: DumpSummary | None) -> None:
        """Create what the restore point needs and lacks, as far as the server accepts it."""
        for command in extensions:
            with suppress(psycopg.Error):  # the definition that needs it fails
                self._session.connection.execute(command)
        for each in placed(definitions) if definitions is not None else ():
            if each.command.kind not in _LEFT_OUT | ATTRIBUTES and not is_tie(each, ()):
                self._run([each])

    def create(self, summary: DumpSummary) -> None:
        """Create everything of the schemas that go back, and of the others what the server accepts."""
        every = list(placed(summary))
        for each in every:
            if each.command.kind is Kind.SCHEMA:
                self._run([each])
        connection = self._session.connection
        new_owners = owners.others(
            connection, (each.command for each in every if self._own(each) and self._wanted(each))
        )
        owners.admit(connection, self._schemas, new_owners)
        waiting: list[Placed] = []
        for each in every:
            if not self._wanted(each):
                continue
            if waiting and not (self._alike(waiting[0], each) and len(waiting) < TOGETHER):
                self._run(waiting)
                waiting = []
            waiting.append(each)
        self._run(waiting)
        self._refresh(each for each in every if each.command.kind is Kind.REFRESH and self._own(each))
        # Before the restore point's own privileges on schemas, which are ties.
        owners.dismiss(connection, self._schemas, new_owners)
        self._tie(each for each in every if is_tie(each, self._schemas))

    def _wanted(self, each: Placed) -> bool:
        kind = each.command.kind
        if kind in _LEFT_OUT or kind is Kind.SCHEMA or is_tie(each, self._schemas):
            return False
        return self._own(each) or kind not in ATTRIBUTES

    def _own(self, each: Placed) -> bool:
        return each.schema in self._schemas

    def _alike(self, one: Placed, other: Placed) -> bool:
        return one.step.state is other.step.state and self._own(one) == self._own(other)

    def _run(self, some: Sequence[Placed]) -> None:
        if self._cancelled():
            raise Interrupted("interrupted while the definitions were rewritten")
        if not some:
            return
        commands = [each.command for each in some]
        self._session.enter(_without_identity(some[0].step.state))
        if self._own(some[0]):
            self._session.run_together(commands)
            return
        if len(commands) > 1 and self._session.commands.run_together(self._session.connection, commands):
            return
        for command in commands:
            try:
                self._session.run(command)
            except Interrupted:
                raise
            except LastgoodError as error:
                self.not_created.append(error.message.removeprefix("cannot load "))

    def _tie(self, tied: Iterable[Placed]) -> None:
        """Make the ties, so that the server can describe them; default privileges last, because they would change
        privileges of later objects. A tie that refers to the schemas that go back must not be missing."""
        for each in sorted(tied, key=lambda each: each.command.kind is Kind.DEFAULT_PRIVILEGES):
            if each.command.kind in (Kind.EVENT_TRIGGER, Kind.EVENT_TRIGGER_STATE):
                continue
            try:
                self._session.run(each.command)
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
