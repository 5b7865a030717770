"""The transaction of an exchange in place; its commit is the commit point of a rollback and of an undo.

Nothing changes before the commit: a killed client, a lost connection or a crash of the server leaves all schemas as
they were. ``DROP SCHEMA`` without CASCADE fails if any object was forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.errors import Failed, Interrupted, LastgoodError, Refused, first_line
from lastgood.in_place import marks
from lastgood.in_place.exchange import snapshots
from lastgood.in_place.exchange.locking import LOCK_TIMEOUT, Locks
from lastgood.in_place.marks import Check, GeneratedColumn, Kept, Role, SchemaMark
from lastgood.in_place.survey import Object, Survey, fingerprint, objects, survey
from lastgood.in_place.ties import Publication, Schema, TiedKey, Ties, queries, retie
from lastgood.in_place.ties.changes import TieChanges
from lastgood.postgres import clock, database
from lastgood.postgres.access.grants import Operator
from lastgood.postgres.deployment import find_deployment
from lastgood.postgres.lock import holder, lock_key
from lastgood.postgres.mark import BROUGHT_BACK, DEPLOYMENT, TRUSTED
from lastgood.postgres.server import Connection

# For one statement, with its waits for several locks.
STATEMENT_TIMEOUT = "4s"
IDLE_TIMEOUT = "5s"


@dataclass(frozen=True, slots=True)
class SchemaPair:
    """One live schema. ``arriving``: the schema whose objects come in, if any. ``exists``: whether the live schema
    exists after the move. ``leaving``: the schema that keeps what was live."""

    live: str
    arriving: str | None
    exists: bool
    leaving: str


@dataclass(frozen=True, slots=True)
class SchemaMove:
    """A move of run ``run``. ``wished``: the ties to be made again. ``keeps``: the role of the schemas that keep what
    was live. ``staged``: the marks of what comes in, whose snapshots count. ``refresh``, ``checks``, ``columns``: what
    ``completion.complete`` does after it. The rest is for the marks."""

    run: str
    pairs: tuple[SchemaPair, ...]
    wished: Ties
    keeps: Role
    staged: tuple[SchemaMark, ...] = ()
    refresh: tuple[tuple[str, str], ...] = ()
    checks: tuple[Check, ...] = ()
    columns: tuple[GeneratedColumn, ...] = ()
    point: str = ""
    host: str = ""
    user: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


_SEQUENCES = """
SELECT schemaname, sequencename, last_value FROM pg_sequences WHERE schemaname = ANY (%s) ORDER BY 1, 2
"""
_EXTENSION_IN = """
SELECT EXISTS (SELECT FROM pg_depend d JOIN pg_depend e ON e.classid = d.classid AND e.objid = d.objid
                 AND e.deptype = 'e'
               WHERE d.refclassid = 'pg_namespace'::regclass AND d.refobjid = %s::regnamespace)
"""


class Transaction:
    """One try. All that ``execute`` does is rolled back unless it returns."""

    def __init__(self, connection: Connection, wanted: SchemaMove, planned: Survey | None, locks: Locks) -> None:
        self._connection = connection
        self._wanted = wanted
        self._planned = planned
        self._locks = locks
        self._operator = Operator.read(connection)
        self._leaving = {pair.live: pair.leaving for pair in wanted.pairs}
        self._lives = list(self._leaving)
        self._arrivals = [pair.arriving for pair in wanted.pairs if pair.arriving is not None]
        trusted = TRUSTED in wanted.options
        self._changes = TieChanges(
            connection,
            self._operator,
            self._leaving,
            wanted.wished,
            trusted=trusted,
            # Those of a restore point were verified when its definitions were rewritten: not while readers wait.
            unverified=wanted.keeps != "kept" and not trusted,
        )
        self._last: SchemaMark | None = None
        self._published: list[Publication] = []

    @property
    def unvalidated(self) -> tuple[TiedKey, ...]:
        """The foreign keys that were made without a look at the rows."""
        return tuple(self._changes.unvalidated)

    @property
    def notes(self) -> tuple[str, ...]:
        """The parts that could not be carried over, in words."""
        return tuple(self._changes.notes)

    def execute(self, cancelled: Callable[[], bool]) -> int:
        """Do all of it, and commit. Returns the number of moved objects."""
        connection = self._connection
        with connection.transaction():
            for name, value in (
                ("lock_timeout", LOCK_TIMEOUT),
                ("statement_timeout", STATEMENT_TIMEOUT),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT),
                ("search_path", ""),
                # A superuser's commands run no event triggers, of either side; from 17 on, its sessions run none.
                *([("session_replication_role", "replica")] if self._operator.superuser else []),
            ):
                connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            self._take_lock()
            self._last = self._last_move()
            incoming = self._incoming()
            live = self._locked(incoming)
            self._published = self._changes.publications()
            fault.point("inplace.after_locks")
            self._changes.drop(live.ties, [pair.live for pair in self._wanted.pairs if not pair.exists])
            renamed = self._move_out(live)
            fault.point("inplace.between_moves")
            self._move_in(incoming)
            self._changes.restore(live.ties)
            self._changes.set_schemas()
            self._mark(live)
            self._assert_apart()
            self._changes.create_event_triggers()
            connection.execute("NOTIFY pgrst, 'reload schema'")
            if cancelled():
                raise Interrupted("interrupted before the switch was committed")
            fault.point("inplace.before_commit")
            # The commit point comes last: everything that could fail has been done.
        fault.point("inplace.after_commit")
        return len(live.objects) - renamed + len(incoming)

    def _take_lock(self) -> None:
        live = self._connection.info.dbname
        row = self._connection.execute("SELECT pg_try_advisory_xact_lock(%s)", [lock_key(live)]).fetchone()
        if row is None or not row[0]:
            who = holder(self._connection, live)
            raise Refused(
                "cannot switch: another run is switching this database" + (f" ({who})" if who else ""),
                hint="Wait for that run, or run lastgood status to see its progress.",
            )

    def _incoming(self) -> list[Object]:
        """The objects that come in. No other session uses them, so they are read before the locks."""
        found, unknown = objects(self._connection, self._arrivals)
        unknown += [f'{each.name} belongs to role "{each.owner}"' for each in found if not each.owned]
        if unknown:
            raise Refused(
                "cannot switch: the restored schemas hold objects that cannot be moved: " + "; ".join(unknown),
                hint="Run lastgood check to list what prevents the switch.",
            )
        return found

    def _locked(self, incoming: list[Object]) -> Survey:
        """Lock all that is moved or tied, and return the survey that holds under the locks. It is made before them, and
        repeated only if a catalogue changed meanwhile: other sessions should not wait for it."""
        connection = self._connection
        catalogues = fingerprint(connection)
        present = self._surveyed()
        self._locks.take(present, incoming, self._wanted.wished)
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
            raise Refused(
                "cannot switch: " + "; ".join(present.refusals),
                hint="Run lastgood check to list what prevents the switch.",
            )
        if self._planned is not None:
            changed = sorted(self._planned.names() ^ present.names())
            if changed or self._planned.ties != present.ties:
                what = ", ".join(changed[:5]) or "ties to other schemas"
                raise Refused(
                    f"cannot switch: the schemas changed since the plan was made ({what})",
                    hint="Run the same command again: it makes a new plan.",
                )
        return present

    def _move_out(self, live: Survey) -> int:
        """Move the live objects out. A schema that does not exist afterwards is renamed, so that it comes back from an
        undo with everything; unless an extension needs it, or another role owns it. Returns how many objects needed no
        move of their own."""
        connection = self._connection
        renamed = set()
        for pair in self._wanted.pairs:
            present = live.ties.schema_named(pair.live)
            if present is not None and not pair.exists and self._may_rename(present):
                renamed.add(pair.live)
                connection.execute(retie.rename_schema(pair.live, pair.leaving))
                if present.owner != self._operator.name:
                    # A mark is believed in this role's own schemas only.
                    connection.execute(retie.give_schema(pair.leaving, self._operator.name))
            else:
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(pair.leaving)))
        self._run(each.set_schema(self._leaving[each.schema]) for each in live.objects if each.schema not in renamed)
        closed = queries.schemas(connection, self._leaving.values())
        for schema in closed:
            self._run(retie.close_schema(schema, self._operator))
        return sum(each.schema in renamed for each in live.objects)

    def _may_rename(self, schema: Schema) -> bool:
        name = sql.Identifier(schema.name).as_string(self._connection)
        row = self._connection.execute(_EXTENSION_IN, [name]).fetchone()
        within = self._operator.superuser or schema.owner in self._operator.inherits
        # Roles other than the database's owner expect public to exist; it is never created again as it was.
        return within and schema.owner != "pg_database_owner" and row is not None and not row[0]

    def _move_in(self, incoming: list[Object]) -> None:
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
                connection.execute(retie.rename_schema(pair.arriving, pair.live))
            else:
                connection.execute(sql.SQL("DROP SCHEMA {}").format(sql.Identifier(pair.arriving)))

    def _mark(self, live: Survey) -> None:
        connection, wanted = self._connection, self._wanted
        kept = Kept(
            schemas=tuple(self._lives),
            existed=tuple(each.name for each in live.ties.schemas),
            ties=self._as_validated(live.ties),
            sequences=tuple(
                marks.Sequence(schema_name=schema, name=name, last_value=value)
                for schema, name, value in connection.execute(_SEQUENCES, [list(self._leaving.values())])
            ),
            unvalidated=self.unvalidated,
            refresh=wanted.refresh,
            checks=wanted.checks,
            columns=wanted.columns,
            own_checks=self._left.checks if self._left is not None else (),
        )
        now = clock.now(connection)
        options = {**wanted.options, **self._end_deployment()}
        for pair in wanted.pairs:
            mark = SchemaMark(
                role=wanted.keeps,
                run=wanted.run,
                live=pair.live,
                made_at=now,
                point=wanted.point,
                host=wanted.host,
                user=wanted.user,
                kept=kept,
                options=options,
            )
            marks.write(connection, pair.leaving, mark)

    def _last_move(self) -> SchemaMark | None:
        """The mark of the last move. An arriving schema may have it."""
        moves = [each.mark for each in marks.marked(self._connection) if each.ours]
        return max((mark for mark in moves if mark.kept is not None), key=lambda mark: mark.made_at, default=None)

    @property
    def _left(self) -> Kept | None:
        """The work that the last move left."""
        return self._last.kept if self._last is not None else None

    def _end_deployment(self) -> dict[str, str]:
        """A deployment that left the database unfinished ends with its rollback: remove its mark. Returns the option of
        the kept schemas, so that ``recover`` does not propose them as the remedy."""
        connection = self._connection
        found = find_deployment(connection, connection.info.dbname)
        if self._wanted.keeps != "kept":
            return {}
        if found is None:
            before = self._last.options.get(BROUGHT_BACK, "") if self._last is not None else ""
            return {DEPLOYMENT: before} if before else {}
        try:
            with connection.transaction():
                database.comment(connection, found.live, found.original_comment)
        except (psycopg.Error, LastgoodError) as error:
            if connection.broken:
                raise
            self._changes.notes.append(
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
        kept = list(self._leaving.values())
        bound = [f"{each.what} depends on {each.on}" for each in queries.dependents(self._connection, kept)]
        bound += [
            f'foreign key "{each.name}" of "{each.schema_name}"'
            for each in queries.foreign_keys(self._connection, kept)
        ]
        if bound:
            raise Failed(
                "cannot switch: kept objects would depend on restored ones: " + "; ".join(bound),
                hint="Report this as a defect in lastgood, with these names.",
            )

    def _run(self, statements: Iterable[sql.Composed]) -> None:
        retie.run(self._connection, statements)
