"""The locks of an exchange in place, on all that is moved or tied.

Measured: a wait for a lock is longer than deadlock_timeout (1 s), or autovacuum never gives way; and bounded, since all
that comes later queues behind it. While other locks are held, it waits for a moment only: a client that holds a table
and waits for another one would die of a deadlock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from lastgood.errors import Refused
from lastgood.in_place.exchange import snapshots
from lastgood.in_place.exchange.snapshots import OpenSession
from lastgood.in_place.survey import Object, Survey
from lastgood.in_place.ties import Ties
from lastgood.postgres.server import Connection, only_row
from lastgood.text.quoting import literal

# Longer than deadlock_timeout (1 s); the clients behind it wait as long, and then for the transaction.
LOCK_TIMEOUT = "1200ms"
# The wait for a lock, and the time for all of them, while others are held: well below deadlock_timeout.
MOMENT = "150ms"
MOMENTS = "500ms"
PASSES = 50
LOCKING_SECONDS = 10.0

# On the server, so that the time between two locks does not depend on the network. The inner block is a subtransaction:
# its end by an exception releases all locks.
_LOCK_ALL = """
DECLARE
  statements text[] := {statements};
  k int := 1;
  began timestamptz := clock_timestamp();
BEGIN
  PERFORM set_config('lastgood.blocked', '', true);
  PERFORM set_config('lock_timeout', {long}, true);
  BEGIN
    WHILE k <= cardinality(statements) LOOP
      EXECUTE statements[k];
      IF k = 1 THEN
        PERFORM set_config('lock_timeout', {moment}, true);
        began := clock_timestamp();
      ELSIF clock_timestamp() - began > {moments}::interval AND k < cardinality(statements) THEN
        RAISE lock_not_available;
      END IF;
      k := k + 1;
    END LOOP;
  EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
    PERFORM set_config('lastgood.blocked', k::text, true);
  END;
END
"""
_PRESENT = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[]))
"""
_HELD = """
FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
{}
WHERE l.locktype = 'relation' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (n.nspname = ANY (%s) OR c.oid = ANY (SELECT to_regclass(x) FROM unnest(%s::text[]) x))
"""
_HOLDERS = f"""
SELECT DISTINCT ON (a.xact_start, a.pid) a.pid, coalesce(a.usename, a.backend_type), a.application_name, a.xact_start,
       a.state
{_HELD.format("JOIN pg_stat_activity a ON a.pid = l.pid")}
ORDER BY a.xact_start LIMIT 5
"""
# They have no process, but a lock of their own number.
_OF_PREPARED = """JOIN pg_locks k ON k.virtualtransaction = l.virtualtransaction AND k.locktype = 'transactionid'
JOIN pg_prepared_xacts x ON x.transaction = k.transactionid"""
_PREPARED = f"""
SELECT DISTINCT x.gid, x.owner, x.prepared
{_HELD.format(_OF_PREPARED)} AND l.pid IS NULL AND k.pid IS NULL
ORDER BY x.prepared LIMIT 5
"""


class NotFree(Exception):
    """A relation was not free in time."""


class Locks:
    """The order in which one session locks all relations, learned in its tries."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        # The statements of locks that were not free, the last one first.
        self._hot: list[str] = []
        self.held_since = time.monotonic()

    def take(self, present: Survey, incoming: Sequence[Object], wished: Ties) -> None:
        """Lock all, without a long wait while a lock is held: where one is not free, all are released, and the next
        pass waits for that one alone and first. So the order of the clients is learned, and none of them waits as long
        as deadlock_timeout for a lock of ours while it holds one that we want.

        Raises NotFree; Refused if a table to be tied does not exist.
        """
        connection = self._connection
        tied = sorted({*present.ties.tables(), *wished.tables()})  # in one order for all transactions
        there = connection.execute(_PRESENT, [[schema for schema, _ in tied], [table for _, table in tied]]).fetchall()
        missing = sorted(set(tied) - set(there))
        if missing:
            raise Refused(
                'cannot switch: the restore point refers to table "{}.{}", which does not exist'.format(*missing[0]),
                hint="Create the table, or choose another restore point: lastgood points",
            )
        own = [each.name.names for each in (*present.objects, *incoming) if each.name.kind == "table"]
        every = [_touch(each) for each in present.of("view", "materialized view", "foreign table", "sequence")]
        every += [_lock(table) for table in (*tied, *own)]
        texts = [statement.as_string(connection) for statement in every]
        deadline = time.monotonic() + LOCKING_SECONDS
        for _ in range(PASSES):
            first = [text for text in self._hot if text in set(texts)]
            order = first + [text for text in texts if text not in set(first)]
            self.held_since = time.monotonic()
            blocked = self._pass(order)
            if blocked is None:
                return
            self._hot[:] = [order[blocked], *(text for text in self._hot if text != order[blocked])]
            if blocked == 0 or time.monotonic() > deadline:
                raise NotFree(order[blocked])
        raise NotFree(self._hot[0])

    def _pass(self, statements: list[str]) -> int | None:
        """Try to take all locks; the index of the one that was not free, and then none is held."""
        connection = self._connection
        if not statements:
            return None
        body = sql.SQL(_LOCK_ALL).format(
            statements=sql.Literal(statements),
            long=sql.Literal(LOCK_TIMEOUT),
            moment=sql.Literal(MOMENT),
            moments=sql.Literal(MOMENTS),
        )
        connection.execute(sql.SQL("DO {}").format(sql.Literal(body.as_string(connection))))
        row = only_row(connection, "SELECT current_setting('lastgood.blocked')")
        return int(row[0]) - 1 if row[0] else None


def _lock(table: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(*table))


def _touch(relation: Object) -> sql.Composed:
    """A statement that locks a relation which LOCK TABLE refuses, or would lock with all that it reads, and changes
    nothing: the owner is the present one."""
    return sql.SQL("ALTER TABLE {} OWNER TO {}").format(relation.name.reference(), sql.Identifier(relation.owner))


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """A transaction that was prepared for a two-phase commit, and holds its locks without a session."""

    gid: str
    owner: str
    prepared: datetime

    def __str__(self) -> str:
        since = f"{self.prepared:%Y-%m-%d %H:%M:%S %Z}"
        end = literal(self.gid)
        return (
            f'prepared transaction "{self.gid}" of role "{self.owner}" since {since}, which ends with '
            f"COMMIT PREPARED {end} or ROLLBACK PREPARED {end}"
        )


Blocker = OpenSession | PreparedTransaction


def blockers(connection: Connection, schemas: Iterable[str], tied: Iterable[tuple[str, str]]) -> list[Blocker]:
    """The sessions that hold locks on tables of the schemas or on these tied tables now, the oldest first: after a wait
    of a second they are those that were in the way. Then prepared transactions."""
    others = [sql.Identifier(*table).as_string(connection) for table in tied]
    found: list[Blocker] = []
    with suppress(psycopg.Error):
        found += [snapshots.session(*row) for row in connection.execute(_HOLDERS, [list(schemas), others])]
        found += prepared(connection, schemas, tied)
    return found


def prepared(
    connection: Connection, schemas: Iterable[str], tied: Iterable[tuple[str, str]]
) -> list[PreparedTransaction]:
    """The prepared transactions that hold locks on tables of the schemas or on these tied tables. Raises
    psycopg.Error."""
    others = [sql.Identifier(*table).as_string(connection) for table in tied]
    return [PreparedTransaction(*row) for row in connection.execute(_PREPARED, [list(schemas), others])]


def blocked_by(attempt: int, sessions: Sequence[Blocker]) -> str:
    """The sessions that made a try fail, in words."""
    who = "; ".join(map(str, sessions)) or "a session that has ended since"
    return f"attempt {attempt} to lock the tables failed; blocked by: {who}"
