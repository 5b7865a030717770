"""The exchange in place: objects of schemas are moved out and others in, in one transaction; the commit point of a
rollback in place and of its undo.

Measured facts that shape it (PostgreSQL 15 to 18): ALTER SCHEMA RENAME locks no table, and writers continue unnoticed
in the renamed schema; a renamed schema takes its default privileges along, also those that only the platform may set.
So objects are moved (SET SCHEMA), and the live schema stays."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg

from lastgood.errors import Failed, Interrupted
from lastgood.in_place import marks
from lastgood.in_place.exchange import locking
from lastgood.in_place.exchange.locking import Blocker, Locks, NotFree
from lastgood.in_place.exchange.transaction import SchemaMove, Transaction
from lastgood.in_place.marks import Role
from lastgood.in_place.survey import Survey
from lastgood.in_place.ties import TiedKey
from lastgood.postgres.errors import message_of, one_line
from lastgood.postgres.server import Connection

TRIES = 10
PAUSE_SECONDS = 1.0
# Lock not available, our own time limits, deadlock, an object created or changed at the same moment: nothing was
# changed, and a retry may succeed.
_RETRIED = frozenset({"55P03", "57014", "25P03", "40P01", "40001", "XX000"})


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of a move. ``outage``: seconds from the first lock to the commit, the longest time that a reader or
    writer may have waited in the last try. ``unvalidated``: foreign keys for ``complete``. ``notes``: what could not
    be carried over."""

    outage: float
    tries: int
    moved: int
    kept: tuple[str, ...]
    unvalidated: tuple[TiedKey, ...]
    notes: tuple[str, ...]


Waiting = Callable[[int, list[Blocker]], None]


def ignore(_attempt: int, _sessions: list[Blocker]) -> None:
    """A ``Waiting`` that drops everything."""


def move(
    connection: Connection,
    wanted: SchemaMove,
    *,
    planned: Survey | None = None,
    waiting: Waiting = ignore,
    cancelled: Callable[[], bool] = lambda: False,
    tries: int = TRIES,
) -> Moved:
    """Exchange the schemas' objects on ``connection``, which must be in autocommit mode and in the database itself.

    ``planned``: the survey of the plan; a difference is refused. ``waiting`` is called after a try that failed, with
    its number and the sessions that were in the way. Raises Refused, Failed or Interrupted, and nothing was changed;
    psycopg.OperationalError when the connection was lost: then call ``committed`` for the outcome.
    """
    locks = Locks(connection)
    for attempt in itertools.count(1):
        if cancelled():
            raise Interrupted("interrupted before the switch")
        transaction = Transaction(connection, wanted, planned, locks)
        try:
            moved = transaction.execute(cancelled)
            return Moved(
                outage=time.monotonic() - locks.held_since,
                tries=attempt,
                moved=moved,
                kept=tuple(pair.leaving for pair in wanted.pairs),
                unvalidated=transaction.unvalidated,
                notes=transaction.notes,
            )
        except (psycopg.Error, NotFree) as error:
            if connection.broken:
                raise
            if isinstance(error, psycopg.Error) and not _passing(error):
                raise Failed(f"cannot switch: {message_of(error)}", hint=_hint(error)) from error
            sessions = _blockers(connection, wanted)
            if attempt >= tries:
                who = "; ".join(str(each) for each in sessions) or one_line(error)
                raise Failed(
                    f"cannot switch: could not lock all tables in {attempt} "
                    f"{'attempt' if attempt == 1 else 'attempts'}; blocked by: {who}",
                    hint="Wait for these transactions, or terminate their sessions, then run the same command again.",
                ) from error
            waiting(attempt, sessions)
            time.sleep(PAUSE_SECONDS)  # lets the queue behind the failed try pass
    raise AssertionError("unreachable: the last try returns or raises")


def _passing(error: psycopg.Error) -> bool:
    """Whether a retry may succeed."""
    return error.sqlstate in _RETRIED or (error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog")


def _hint(error: psycopg.Error) -> str:
    if error.sqlstate == "42501":
        return "Run lastgood check --capabilities to see what this role may do."
    if error.diag.message_detail and error.sqlstate == "2BP01":
        return f"Drop the dependent objects first: {error.diag.message_detail}"
    return "Run lastgood check to list what prevents the switch."


def _blockers(connection: Connection, wanted: SchemaMove) -> list[Blocker]:
    schemas = [name for pair in wanted.pairs for name in (pair.live, pair.arriving) if name is not None]
    return locking.blockers(connection, schemas, wanted.wished.tables())


def committed(connection: Connection, run: str, keeps: Role) -> bool:
    """Whether the move of this run was committed: on a new connection, when the server process of the move ended."""
    return bool(marks.marked(connection, run=run, role=keeps))
