"""The exchange in place: objects of schemas are moved out and others in, in one transaction; the commit point of a
rollback in place and of its undo.

Measured facts that shape it (PostgreSQL 15 to 18): ALTER SCHEMA RENAME locks no table, and writers continue unnoticed
in the renamed schema; a renamed schema takes its default privileges along, also those that only the platform may set.
So objects are moved (SET SCHEMA), and the live schema stays. A wait for a lock is longer than deadlock_timeout (1 s),
or autovacuum never gives way; and bounded, since all that comes later queues behind it. While other locks are held, it
waits for a moment only: a client that holds a table and waits for another one would die of a deadlock.

Nothing changes before the commit: a killed client, a lost connection or a crash of the server leaves all schemas as
they were. ``DROP SCHEMA`` without CASCADE fails if any object was forgotten."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.dump.names import Relation
from lastgood.errors import Failed, Interrupted, LastgoodError, Refused, first_line
from lastgood.in_place import late_checks, marks, retie, snapshots, ties
from lastgood.in_place.marks import Check, GeneratedColumn, Kept, Mark, Role
from lastgood.in_place.snapshots import Session
from lastgood.in_place.survey import Object, Survey, fingerprint, objects, survey
from lastgood.in_place.ties import ForeignKey, Publication, Ties
from lastgood.postgres import database
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.errors import one_line, words
from lastgood.postgres.grants import Operator
from lastgood.postgres.lock import key_holder, lock_key
from lastgood.postgres.mark import DEPLOYMENT
from lastgood.postgres.server import Connection

# Longer than deadlock_timeout (1 s); the clients behind it wait as long, and then for the transaction.
LOCK_TIMEOUT = "1200ms"
# The wait for a lock, and the time for all of them, while others are held: well below deadlock_timeout.
MOMENT = "150ms"
MOMENTS = "500ms"
PASSES = 50
# For one statement, with its waits for several locks.
STATEMENT_TIMEOUT = "4s"
IDLE_TIMEOUT = "5s"
TRIES = 10
PAUSE_SECONDS = 1.0
LOCKING_SECONDS = 10.0
BATCH = 100
# Lock not available, our own time limits, deadlock, an object created or changed at the same moment: nothing was
# changed, and a retry may succeed.
_RETRIED = frozenset({"55P03", "57014", "25P03", "40P01", "40001", "XX000"})


@dataclass(frozen=True, slots=True)
class Pair:
    """One live schema. ``arriving``: the schema whose objects come in, if any. ``exists``: whether the live schema
    exists after the move. ``leaving``: the schema that keeps what was live."""

    live: str
    arriving: str | None
    exists: bool
    leaving: str


@dataclass(frozen=True, slots=True)
class Move:
    """A move of run ``run``. ``wished``: the ties to be made again. ``keeps``: the role of the schemas that keep what
    was live. ``staged``: the marks of what comes in, whose snapshots count. ``refresh``,
    ``checks``, ``columns``: what ``complete`` does after it. The rest is for the marks."""

    run: str
    pairs: tuple[Pair, ...]
    wished: Ties
    keeps: Role
    staged: tuple[Mark, ...] = ()
    refresh: tuple[tuple[str, str], ...] = ()
    checks: tuple[Check, ...] = ()
    columns: tuple[GeneratedColumn, ...] = ()
    point: str = ""
    host: str = ""
    user: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moved:
    """The result of a move. ``outage``: seconds from the first lock to the commit, the longest time that a reader or
    writer may have waited in the last try. ``unvalidated``: foreign keys for ``complete``. ``notes``: what could not
    be carried over."""

    outage: float
    tries: int
    moved: int
    kept: tuple[str, ...]
    unvalidated: tuple[ForeignKey, ...]
    notes: tuple[str, ...]


Waiting = Callable[[int, list[Session]], None]


def ignore(_attempt: int, _sessions: list[Session]) -> None:
    """A ``Waiting`` that drops everything."""


def move(
    connection: Connection,
    wanted: Move,
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
    hot: list[str] = []
    for attempt in itertools.count(1):
        if cancelled():
            raise Interrupted("interrupted before the switch")
        transaction = _Transaction(connection, wanted, planned, hot)
        try:
            moved = transaction.execute(cancelled)
            return Moved(
                outage=time.monotonic() - transaction.locked_at,
                tries=attempt,
                moved=moved,
                kept=tuple(pair.leaving for pair in wanted.pairs),
                unvalidated=tuple(transaction.unvalidated),
                notes=tuple(transaction.notes),
            )
        except (psycopg.Error, _NotFree) as error:
            if connection.broken:
                raise
            if isinstance(error, psycopg.Error) and not _passing(error):
                raise Failed(f"cannot switch: {words(error)}", hint=_hint(error)) from error
            sessions = _in_the_way(connection, wanted)
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


class _NotFree(Exception):
    """A relation was not free in time."""


def _passing(error: psycopg.Error) -> bool:
    """Whether a retry may succeed."""
    return error.sqlstate in _RETRIED or (error.sqlstate == "23505" and error.diag.schema_name == "pg_catalog")


def _hint(error: psycopg.Error) -> str:
    if error.sqlstate == "42501":
        return "Run lastgood check --capabilities to see what this role may do."
    if error.diag.message_detail and error.sqlstate == "2BP01":
        return f"These objects prevent it: {error.diag.message_detail}"
    return "To list the obstacles: lastgood check"


def committed(connection: Connection, run: str, keeps: Role) -> bool:
    """Whether the move of this run was committed: on a new connection, when the server process of the move ended."""
    return bool(marks.marked(connection, run=run, role=keeps))


def complete(connection: Connection, run: str) -> Iterator[str]:
    """Do what the committed move of a run left to do, and record that. Yields each failure in words; such a foreign key
    holds for new rows only. May run again after an interruption, on any machine, under the lock of the live database.
    """
    for left in marks.rest(connection, run):
        yield from validated(connection, left.foreign_keys)
        for view in left.views:
            yield from _refreshed(connection, view)
        yield from late_checks.validate(connection, left.checks)
        yield from late_checks.compare(connection, left.columns)
        with connection.transaction():
            for each in marks.marked(connection, run=run):
                if each.ours and each.mark.kept is not None:
                    done = each.mark.model_copy(update={"kept": each.mark.kept.completed()})
                    marks.write(connection, each.name, done)


def _refreshed(connection: Connection, view: tuple[str, str]) -> Iterator[str]:
    statement = sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(*view)).as_string(connection)
    try:
        connection.execute(statement.encode())
    except psycopg.Error as error:
        if connection.broken:
            raise
        yield (
            f"cannot refresh {Relation(*view)}, which may have rows from before the switch: {words(error)}; run: "
            f"{statement}"
        )


def validate(connection: Connection, keys: Iterable[ForeignKey]) -> list[tuple[ForeignKey, str]]:
    """Validate foreign keys after a move, each in a transaction of its own. Returns those that failed, with the
    server's reason: rows that they refer to were deleted meanwhile.

    VALIDATE blocks neither readers nor writers. Before 18, a foreign key of a partitioned table cannot be NOT VALID: it
    is created here, and writers of both tables wait meanwhile; after a failure it does not exist.
    """
    failed = []
    for key in keys:
        fault.point("inplace.before_validate")
        there = {each.key for each in ties.foreign_keys(connection, [key.schema_name])}
        try:
            if key.key in there:
                connection.execute(retie.validate_foreign_key(key))
            elif key.partitioned:
                retie.single(connection, retie.add_foreign_key(key, valid=True))
                if key.comment is not None:
                    connection.execute(retie.comment_foreign_key(key))
        except psycopg.errors.ForeignKeyViolation as error:
            failed.append((key, words(error)))
    return failed


def validated(connection: Connection, keys: Iterable[ForeignKey]) -> Iterator[str]:
    """Validate foreign keys, and yield each failure in words: such a key holds for new rows only."""
    for key, why in validate(connection, keys):
        yield f'foreign key "{key.name}" of "{key.schema_name}.{key.table}" is still NOT VALID: {why}'


def in_the_way(attempt: int, sessions: Sequence[Session]) -> str:
    """The sessions that made a try fail, in words."""
    who = "; ".join(map(str, sessions)) or "a session that has ended since"
    return f"attempt {attempt} to lock the tables failed; blocked by: {who}"


_SEQUENCES = """
SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE schemaname = ANY (%s) ORDER BY 1, 2
"""
_EXTENSION_IN = """
SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid
                 AND e.deptype = 'e'
               WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = %s::regnamespace)
"""
# References by OID in ordinary columns of tables that stay, as those of the realtime service have.
_REFERENCES = """
SELECT n.nspname, c.relname, a.attname
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE a.atttypid = 'regclass'::regtype AND NOT a.attisdropped AND a.attgenerated = '' AND c.relkind = 'r'
  AND c.relpersistence <> 't' AND n.nspname <> ALL (%s) AND n.nspname NOT IN ('pg_catalog', 'information_schema')
  AND n.nspname NOT LIKE 'lastgood\\_%%'
ORDER BY 1, 2, 3
"""
_REFER = """
UPDATE {} SET {} = m.arrived FROM (
    SELECT o.oid::regclass AS was, a.oid::regclass AS arrived
    FROM unnest(%s::text[], %s::text[]) p (leaving, live)
    JOIN pg_namespace ln ON ln.nspname = p.leaving JOIN pg_class o ON o.relnamespace = ln.oid
    JOIN pg_namespace an ON an.nspname = p.live JOIN pg_class a ON a.relnamespace = an.oid AND a.relname = o.relname
) m WHERE {} = m.was
"""
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
_HOLDERS = """
SELECT DISTINCT ON (a.xact_start, a.pid) a.pid, coalesce(a.usename, a.backend_type), a.application_name, a.xact_start,
       a.state
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (n.nspname = ANY (%s) OR c.oid = ANY (SELECT to_regclass(x) FROM unnest(%s::text[]) x))
ORDER BY a.xact_start LIMIT 5
"""


def _in_the_way(connection: Connection, wanted: Move) -> list[Session]:
    """The sessions that hold locks on the tables now, the oldest first: after a wait of a second they are those that
    were in the way."""
    schemas = [name for pair in wanted.pairs for name in (pair.live, pair.arriving) if name is not None]
    others = [sql.Identifier(*table).as_string(connection) for table in _tied_tables(wanted.wished)]
    with suppress(psycopg.Error):
        return [snapshots.session(*row) for row in connection.execute(_HOLDERS, [schemas, others])]
    return []


def _tied_tables(*several: Ties) -> list[tuple[str, str]]:
    """The tables that stay and are tied, in one order for all transactions."""
    found: set[tuple[str, str]] = set()
    for each in several:
        found |= {(key.target_schema, key.target_table) for key in each.foreign_keys}
        found |= {(one.schema_name, one.table) for one in each.triggers if one.tied}
        found |= {(one.schema_name, one.table) for one in each.policies if one.tied}
    return sorted(found)


class _Transaction:
    """One try. All that ``execute`` does is rolled back unless it returns."""

    def __init__(self, connection: Connection, wanted: Move, planned: Survey | None, hot: list[str]) -> None:
        """``hot``: the statements of locks that were not free, the last one first, for all tries."""
        self._connection = connection
        self._wanted = wanted
        self._planned = planned
        self._hot = hot
        self._operator = Operator.read(connection)
        self._lives = [pair.live for pair in wanted.pairs]
        self._arrivals = [pair.arriving for pair in wanted.pairs if pair.arriving is not None]
        self.locked_at = time.monotonic()
        self._left: Kept | None = None
        self._published: list[Publication] = []
        self.unvalidated: list[ForeignKey] = []
        self.notes: list[str] = []

    def execute(self, cancelled: Callable[[], bool]) -> int:
        """Do all of it, and commit. Returns the number of moved objects."""
        connection = self._connection
        with connection.transaction():
            for name, value in (
                ("lock_timeout", LOCK_TIMEOUT),
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
                ("search_path", ""),
            ):
                connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            self._take_lock()
            self._left = self._left_by_last_move()
            incoming = self._incoming()
            live = self._locked(incoming)
            self._published = self._publications()
            fault.point("inplace.after_locks")
            self._cut(live.ties)
            renamed = self._leave(live)
            fault.point("inplace.between_moves")
            self._arrive(incoming)
            self._tie(live.ties)
            self._set_schemas(live.ties)
            self._mark(live)
            self._assert_apart()
            # Event triggers last: they would fire for our own commands.
            for trigger in self._wanted.wished.event_triggers:
                for statement in retie.create_event_trigger(trigger):
                    retie.single(connection, statement)
                self._give_away(f'event trigger "{trigger.name}"', trigger.owner, retie.give_event_trigger(trigger))
            connection.execute("NOTIFY pgrst, 'reload schema'")
            if cancelled():
                raise Interrupted("interrupted before the switch was committed")
            fault.point("inplace.before_commit")
            # The commit point comes last: everything that could fail has been done.
        fault.point("inplace.after_commit")
        return len(live.objects) - renamed + len(incoming)

    def _take_lock(self) -> None:
        key = lock_key(self._connection.info.dbname)
        row = self._connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [key]).fetchone()
        if row is None or not row[0]:
            who = key_holder(self._connection, key)
            raise Refused(
                "cannot switch: another run switches in this database" + (f" ({who})" if who else ""),
                hint="Wait for that run, or run lastgood status to see its progress.",
            )

    def _incoming(self) -> list[Object]:
        """The objects that come in. No other session uses them, so they are read before the locks."""
        found, unknown = objects(self._connection, self._arrivals)
        unknown += [f'{each.name} belongs to role "{each.owner}"' for each in found if not each.owned]
        if unknown:
            raise Refused(
                "cannot switch: the restored schemas hold objects that cannot be moved: " + "; ".join(unknown),
                hint="To list the obstacles: lastgood check",
            )
        return found

    def _locked(self, incoming: list[Object]) -> Survey:
        """Lock all that is moved or tied, and return the survey that holds under the locks. It is made before them, and
        repeated only if a catalogue changed meanwhile: other sessions should not wait for it."""
        connection = self._connection
        catalogues = fingerprint(connection)
        present = self._surveyed()
        self._lock_tables(present, incoming)
        if fingerprint(connection) != catalogues:
            present = self._surveyed()
        older = snapshots.older(connection, self._wanted.staged)
        if older:
            raise snapshots.refused(older)
        return present

    def _surveyed(self) -> Survey:
        """The survey, unless it is refused or differs from that of the plan."""
        present = survey(self._connection, self._lives, arriving=self._arrivals)
        if present.refusals:
            raise Refused("cannot switch: " + "; ".join(present.refusals), hint="To list the obstacles: lastgood check")
        if self._planned is not None:
            changed = sorted(self._planned.names() ^ present.names())
            if changed or self._planned.ties != present.ties:
                what = ", ".join(changed[:5]) or "ties to other schemas"
                raise Refused(
                    f"cannot switch: the schemas changed since the plan was made ({what})",
                    hint="Run the same command again: it makes a new plan.",
                )
        return present

    def _lock_tables(self, present: Survey, incoming: list[Object]) -> None:
        """Lock all, without a long wait while a lock is held: where one is not free, all are released, and the next
        pass waits for that one alone and first. So the order of the clients is learned, and none of them waits as long
        as deadlock_timeout for a lock of ours while it holds one that we want."""
        connection = self._connection
        tied = _tied_tables(present.ties, self._wanted.wished)
        there = connection.execute(_PRESENT, [[schema for schema, _ in tied], [table for _, table in tied]]).fetchall()
        missing = sorted(set(tied) - set(there))
        if missing:
            raise Refused(
                'cannot switch: the restore point refers to table "{}.{}", which does not exist'.format(*missing[0]),
                hint="Create it, or choose another restore point: lastgood points",
            )
        own = [each.name.names for each in (*present.objects, *incoming) if each.name.kind == "table"]
        every = [_touch(each) for each in present.of("view", "materialized view", "foreign table", "sequence")]
        every += [_lock(table) for table in (*tied, *own)]
        texts = [statement.as_string(connection) for statement in every]
        deadline = time.monotonic() + LOCKING_SECONDS
        for _ in range(PASSES):
            first = [text for text in self._hot if text in set(texts)]
            order = first + [text for text in texts if text not in set(first)]
            self.locked_at = time.monotonic()
            blocked = self._pass(order)
            if blocked is None:
                return
            self._hot[:] = [order[blocked], *(text for text in self._hot if text != order[blocked])]
            if blocked == 0 or time.monotonic() > deadline:
                raise _NotFree(order[blocked])
        raise _NotFree(self._hot[0])

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
        row = connection.execute("SELECT current_setting('lastgood.blocked')").fetchone()
        assert row is not None
        return int(row[0]) - 1 if row[0] else None

    def _cut(self, live: Ties) -> None:
        self._run(retie.drop_event_trigger(each) for each in live.event_triggers)
        self._run(retie.unpublish(live))
        gone = [pair.live for pair in self._wanted.pairs if not pair.exists]
        self._run(retie.unpublish_schemas(live, self._wanted.wished, gone))
        self._run(retie.drop_foreign_key(each) for each in live.foreign_keys)

    def _leave(self, live: Survey) -> int:
        """Move the live objects out. A schema that does not exist afterwards is renamed, so that it comes back from an
        undo with everything; unless an extension needs it, or another role owns it. Returns how many objects needed no
        move of their own."""
        connection = self._connection
        renamed = set()
        for pair in self._wanted.pairs:
            present = live.ties.schema_named(pair.live)
            if present is not None and not pair.exists and self._may_rename(present):
                renamed.add(pair.live)
                connection.execute(_rename(pair.live, pair.leaving))
                if present.owner != self._operator.name:
                    # A mark is believed in this role's own schemas only.
                    connection.execute(_give(pair.leaving, self._operator.name))
            else:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(pair.leaving)))
        to = {pair.live: pair.leaving for pair in self._wanted.pairs}
        self._run(each.set_schema(to[each.schema]) for each in live.objects if each.schema not in renamed)
        closed = ties.schemas(connection, [pair.leaving for pair in self._wanted.pairs])
        for schema in closed:
            self._run(retie.close_schema(schema, self._operator))
        return sum(each.schema in renamed for each in live.objects)

    def _may_rename(self, schema: ties.Schema) -> bool:
        name = sql.Identifier(schema.name).as_string(self._connection)
        row = self._connection.execute(_EXTENSION_IN, [name]).fetchone()
        within = self._operator.superuser or schema.owner in self._operator.inherits
        # Roles other than the database's owner expect public to exist; it is never created again as it was.
        return within and schema.owner != "pg_database_owner" and row is not None and not row[0]

    def _arrive(self, incoming: list[Object]) -> None:
        """Move the others in. An arriving schema is dropped without CASCADE: it must be empty."""
        connection = self._connection
        lives = {
            name
            for (name,) in connection.execute(
                "SELECT nspname FROM pg_namespace WHERE nspname = ANY (%s)", [self._lives]
            )
        }
        whole = {pair.arriving for pair in self._wanted.pairs if pair.exists and pair.live not in lives}
        to = {pair.arriving: pair.live for pair in self._wanted.pairs}
        self._run(each.set_schema(to[each.schema]) for each in incoming if each.schema not in whole)
        for pair in self._wanted.pairs:
            if pair.arriving is None:
                continue
            if pair.arriving in whole:
                connection.execute(_rename(pair.arriving, pair.live))
            else:
                connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(pair.arriving)))

    def _tie(self, live: Ties) -> None:
        """Make the ties again, as wished."""
        connection, wished = self._connection, self._wanted.wished
        there = {each.key for each in ties.foreign_keys(connection, self._lives)}
        for key in wished.foreign_keys:
            if key.key in there:
                continue
            late = key.partitioned and connection.info.server_version < 180000
            if not late:
                retie.single(connection, retie.add_foreign_key(key, valid=False))
                if key.comment is not None:
                    connection.execute(retie.comment_foreign_key(key))
            if key.validated:
                self.unvalidated.append(key)
        for statement in (*retie.triggers(live, wished), *retie.policies(live, wished)):
            retie.single(connection, statement)
        present = self._publications()
        for statement in retie.publish(present, wished.publications):
            retie.single(connection, statement)
        existing = {each.name for each in present}
        for publication in wished.publications:
            if publication.name not in existing:
                statement = retie.give_publication(publication)
                self._give_away(f'publication "{publication.name}"', publication.owner, statement)
        self._refer()

    def _refer(self) -> None:
        """Let references by OID lead to the tables that came in, as far as this role may change them."""
        connection = self._connection
        pairs = [[pair.leaving for pair in self._wanted.pairs], self._lives]
        for schema, table, column in connection.execute(_REFERENCES, [self._lives]).fetchall():
            statement = sql.SQL(_REFER).format(
                sql.Identifier(schema, table), sql.Identifier(column), sql.Identifier(table, column)
            )
            try:
                with connection.transaction():
                    connection.execute(statement, pairs)
            except psycopg.Error as error:
                if connection.broken:
                    raise
                self.notes.append(f'references in "{schema}.{table}" still lead to kept tables: {words(error)}')

    def _set_schemas(self, live: Ties) -> None:
        """The schemas' privileges, comments and default privileges, as wished."""
        connection, wished = self._connection, self._wanted.wished
        for present in ties.schemas(connection, self._lives):
            want = wished.schema_named(present.name)
            if want is None:
                continue
            if present.owner != want.owner:
                present = self._with_owner(present, want.owner)
            self._run(retie.schema_privileges(present, want, self._operator))
            if present.comment != want.comment:
                connection.execute(
                    sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
                        sql.Identifier(present.name), sql.Literal(want.comment)
                    )
                )
        self._run(
            retie.default_privileges(
                ties.default_privileges(connection, self._lives), wished.default_privileges, self._operator
            )
        )

    def _publications(self) -> list[Publication]:
        """The live publications that are tied or are to be."""
        wished = [each.name for each in self._wanted.wished.publications]
        return ties.publications(self._connection, self._lives, also=wished)

    def _give_away(self, what: str, owner: str, statement: sql.Composed) -> None:
        """Give an object that this role created to its wished owner, if this role may do so."""
        if owner in ("", self._operator.name):
            return
        try:
            with self._connection.transaction():
                self._connection.execute(statement)
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self.notes.append(f'{what} belongs to role "{self._operator.name}", not "{owner}": {words(error)}')

    def _with_owner(self, present: ties.Schema, owner: str) -> ties.Schema:
        """Give a schema the wished owner, if this role may do so."""
        try:
            with self._connection.transaction():
                self._connection.execute(_give(present.name, owner))
        except psycopg.Error as error:
            if self._connection.broken:
                raise
            self.notes.append(
                f'schema "{present.name}" belongs to role "{present.owner}", not "{owner}": {words(error)}'
            )
            return present
        (now,) = ties.schemas(self._connection, [present.name])
        return now

    def _mark(self, live: Survey) -> None:
        connection, wanted = self._connection, self._wanted
        kept = Kept(
            schemas=tuple(self._lives),
            existed=tuple(each.name for each in live.ties.schemas),
            ties=self._as_validated(live.ties),
            sequences=tuple(
                marks.Sequence(schema_name=schema, name=name, last_value=value)
                for schema, name, value in connection.execute(_SEQUENCES, [[pair.leaving for pair in wanted.pairs]])
            ),
            unvalidated=tuple(self.unvalidated),
            refresh=wanted.refresh,
            checks=wanted.checks,
            columns=wanted.columns,
            own_checks=self._left.checks if self._left is not None else (),
        )
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        options = {**wanted.options, **self._end_deployment()}
        for pair in wanted.pairs:
            mark = Mark(
                role=wanted.keeps,
                run=wanted.run,
                live=pair.live,
                made_at=row[0],
                point=wanted.point,
                host=wanted.host,
                user=wanted.user,
                kept=kept,
                options=options,
            )
            marks.write(connection, pair.leaving, mark)

    def _left_by_last_move(self) -> Kept | None:
        """What the last move left to do. An arriving schema may list it."""
        moves = [each.mark for each in marks.marked(self._connection) if each.ours]
        last = max((mark for mark in moves if mark.kept is not None), key=lambda mark: mark.made_at, default=None)
        return last.kept if last is not None else None

    def _end_deployment(self) -> dict[str, str]:
        """A deployment that left the database unfinished ends with its rollback: remove its mark. Returns the option of
        the kept schemas, so that ``recover`` does not propose them as the remedy."""
        connection = self._connection
        found = find_deployment(connection, connection.info.dbname)
        if found is None or self._wanted.keeps != "kept":
            return {}
        try:
            with connection.transaction():
                database.comment(connection, found.live, found.original_comment)
        except (psycopg.Error, LastgoodError) as error:
            if connection.broken:
                raise
            self.notes.append(
                f"the mark of deployment {found.run} remains: {first_line(error)}; to remove it: lastgood deploy "
                f"--accept {found.run}"
            )
        return {DEPLOYMENT: found.run}

    def _as_validated(self, live: Ties) -> Ties:
        """The ties with the foreign keys that the last move left to be validated, as if that had been done: a move
        back makes them again. With the publications that the move changes, too."""
        present = {each.key for each in live.foreign_keys}
        unvalidated = self._left.unvalidated if self._left is not None else ()
        left = {key.key: key for key in unvalidated if key.partitioned or key.key in present}
        others = tuple(each for each in live.foreign_keys if each.key not in left)
        return live.model_copy(
            update={"foreign_keys": (*others, *left.values()), "publications": tuple(self._published)}
        )

    def _assert_apart(self) -> None:
        """Nothing outside depends on what is kept, and nothing kept is bound to what stays."""
        kept = [pair.leaving for pair in self._wanted.pairs]
        bound = [f"{each.what} depends on {each.on}" for each in ties.dependents(self._connection, kept)]
        bound += [
            f'foreign key "{each.name}" of "{each.schema_name}"' for each in ties.foreign_keys(self._connection, kept)
        ]
        if bound:
            raise Failed(
                "cannot switch: the old objects would still depend on the new ones: " + "; ".join(bound),
                hint="Report this as a defect in lastgood, with these names.",
            )

    def _run(self, statements: Iterable[sql.Composed]) -> None:
        """Execute many statements in few messages."""
        every = list(statements)
        for start in range(0, len(every), BATCH):
            self._connection.execute(sql.SQL("; ").join(every[start : start + BATCH]))


def _lock(table: tuple[str, ...]) -> sql.Composed:
    return sql.SQL("LOCK TABLE ONLY {} IN ACCESS EXCLUSIVE MODE").format(sql.Identifier(*table))


def _touch(relation: Object) -> sql.Composed:
    """A statement that locks a relation which LOCK TABLE refuses, or would lock with all that it reads, and changes
    nothing: the owner is the present one."""
    return sql.SQL("ALTER TABLE {} OWNER TO {}").format(relation.name.reference(), sql.Identifier(relation.owner))


def _rename(schema: str, name: str) -> sql.Composed:
    return sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(name))


def _give(schema: str, owner: str) -> sql.Composed:
    return sql.SQL("ALTER SCHEMA {} OWNER TO {}").format(sql.Identifier(schema), sql.Identifier(owner))
