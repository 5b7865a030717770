"""The definitions of a restore point under the names of staging schemas, rewritten by the server itself.

The definitions are created in a scratch database and compared with the facts of the restore point. Then the schemas
that go back get the names of their staging schemas, and pg_dump writes them. Names in expressions, views, policies and
bodies of BEGIN ATOMIC functions follow, because the server writes them; the text of other function bodies, and
``SET search_path``, remain as they are, which is right after the swap.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.names import Relation, quoted
from lastgood.dump.reader import read
from lastgood.dump.rulings.tree import parse, qualified
from lastgood.dump.script import State, Step
from lastgood.dump.statements import Command, ForeignKey, Kind
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Failed, Interrupted, LastgoodError, Refused
from lastgood.events import Caution, Note
from lastgood.facts import Facts, ObjectFacts
from lastgood.facts.objects import DEFINITIONS, read_objects
from lastgood.in_place import carried, late_checks, owners, ties
from lastgood.in_place.marks import Check, GeneratedColumn
from lastgood.in_place.placed import Placed, event_triggers, is_tie, object_class, outside, placed
from lastgood.in_place.scratch import scratch
from lastgood.in_place.survey import objects
from lastgood.in_place.ties import Ties
from lastgood.load.loaded import Loaded
from lastgood.load.repairs import Commands, Rules
from lastgood.load.repairs.repair import OWNERS, PRIVILEGES
from lastgood.load.session import Later, Session
from lastgood.postgres import binaries
from lastgood.postgres.server import Connection, Target
from lastgood.process import run
from lastgood.text.redact import visible
from lastgood.text.units import counted

TOGETHER = 100
SHOWN = 20
DUMP_SECONDS = 600.0

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
_ATTRIBUTES = OWNERS | PRIVILEGES | {Kind.COMMENT, Kind.SECURITY_LABEL}
_IDENTITIES = frozenset({"session_authorization", "role"})

Action = Literal["cascade", "set null", "set default", "no action", "restrict"]
_ACTIONS: Mapping[str, Action] = {
    "c": "cascade",
    "n": "set null",
    "d": "set default",
    "a": "no action",
    "r": "restrict",
}


@dataclass(frozen=True, slots=True)
class PlatformKey:
    """A foreign key from a table that goes back to one that does not. ``table`` is in its staging schema.

    ``command`` adds it, and ``comment`` sets its comment, in the server's own text. ``set_columns``: the columns that
    ON DELETE SET changes, empty for all.
    """

    name: str
    table: Relation
    columns: tuple[str, ...]
    references: Relation
    keys: tuple[str, ...]
    on_delete: Action
    set_columns: tuple[str, ...]
    validated: bool
    command: bytes
    comment: bytes | None = None

    @property
    def what(self) -> str:
        """The key for a message."""
        return f"foreign key {quoted(self.name)} of {self.table}"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The definitions of a restore point, rewritten: ``schemas`` has the staging schema of each schema that goes back.

    ``summary`` is that of pg_dump's output from the scratch database, whose script has the definitions without the
    schemas themselves and without ``keys``. ``ties``: what the swap makes again. ``refresh``: the materialized views
    that call functions, whose text may name live tables: they are to be refreshed after the swap (live names).
    ``checks`` and ``columns``: those to be verified after the swap for the same reason.
    ``lent``: schemas outside that the restore point lacks, and whose definitions are the live database's; the ties
    outside are the live ones then, too. ``not_created``: objects outside the schemas that the scratch database lacks,
    and that none of the definitions needs.
    """

    schemas: Mapping[str, str]
    summary: DumpSummary
    keys: tuple[PlatformKey, ...]
    ties: Ties
    refresh: tuple[Relation, ...]
    checks: tuple[Check, ...]
    columns: tuple[GeneratedColumn, ...]
    lent: tuple[str, ...]
    not_created: tuple[str, ...]

    def staged(self, relation: Relation) -> Relation | None:
        """The relation in staging; None for one that does not go back."""
        schema = self.schemas.get(relation.schema)
        return Relation(schema, relation.name) if schema is not None else None


def rewrite(
    target: Target,
    summary: DumpSummary,
    facts: Facts,
    name: str,
    schemas: Mapping[str, str],
    rules: Rules,
    context: Context,
) -> Rewritten:
    """Rewrite the definitions of a restore point, of which ``summary`` and ``facts`` are known, for ``schemas``: each
    schema of it that goes back (``placed.schemas`` has all), with the name of its staging schema. ``name`` is the
    restore point's, for messages.

    Only the scratch database is written to. Raises Refused when the restore point has objects that can't be staged,
    Failed when a definition can't be created or differs from the restore point's, Interrupted.
    """
    if without_schema := outside(summary, schemas):
        raise Refused(
            f'cannot build "{visible(name)}" in staging schemas: it has '
            f"{', '.join(map(visible, without_schema))}, which belong to no schema",
            hint="Go back by name (--by-name), or restore into another database: lastgood restore",
        )
    with target.connect(application_name="lastgood rewrite") as live:
        major, role = live.info.server_version // 10000, live.info.user
        bare = not (summary.has_owners and summary.has_acls)
        carries = carried.of_schemas(live, schemas) if bare else None
    program = binaries.find("pg_dump", at_least=major)
    roles = summary.roles | (carried.roles(carries) if carries is not None else frozenset())
    with scratch(target, major, role, roles, context.emit) as made:
        session = Session(made.connection, Commands(name, rules, context), Loaded())
        builder = _Builder(session, schemas, context.cancelled)
        with target.connect(application_name="lastgood rewrite") as live:
            lent = _lent(live, summary, schemas)
            extensions = _extensions(live, {*lent, *schemas}) if not summary.extensions else []
            present = ties.read(live, schemas) if lent or _partial(live, summary, schemas) else None
        if lent:
            context.emit(
                Note(f"the restore point lacks {', '.join(lent)}: the definitions of the live database are used")
            )
        builder.lend(
            extensions, definitions_in(dumped(program.path, target, lent, context.cancelled)) if lent else None
        )
        builder.create(summary)
        session.enter(())
        _compare(facts, read_objects(made.connection), schemas, builder.unpopulated, name)
        if carries is not None:
            missing = {"owners": not summary.has_owners, "acls": not summary.has_acls}
            for remark in carried.carry_over(carries, made.connection, schemas, **missing):
                context.emit(Note(remark))
        wished = ties.read(made.connection, schemas).model_copy(
            update={"event_triggers": event_triggers(summary, schemas)}
        )
        if present is not None:
            wished = _completed(wished, present, summary)
        refresh = [Relation(*row) for row in made.connection.execute(_CALLING_VIEWS, [list(schemas)])]
        checks = late_checks.postpone(made.connection, schemas)
        columns = late_checks.generated_columns(made.connection, schemas)
        for index in late_checks.indexes(made.connection, schemas):
            context.emit(
                Caution(
                    f"index {index} uses a function that may read the live tables while it is built; after the switch, "
                    f"run: REINDEX INDEX CONCURRENTLY {index}"
                )
            )
        fault.point("inplace.in_scratch")
        for schema, staging in schemas.items():
            _give_name(made.connection, schema, staging)
        text = dumped(program.path, made.target, schemas.values(), context.cancelled)
    definitions = definitions_in(text)
    keys = tuple(_keys(definitions, schemas.values()))
    of_keys = {key.comment for key in keys if key.comment is not None}
    definitions.script.items = [
        item
        for item in definitions.script.items
        if isinstance(item, Step)
        and not left_to_the_swap(item.command, schemas.values())
        and item.command.statement.text not in of_keys
    ]
    for left_out in builder.not_created:
        context.emit(Note(f"not created in the scratch database: {left_out}"))
    return Rewritten(
        schemas, definitions, keys, wished, tuple(refresh), checks, columns, tuple(lent), tuple(builder.not_created)
    )


def _lent(live: Connection, summary: DumpSummary, schemas: Collection[str]) -> list[str]:
    """The schemas of the live database that definitions of the restore point name and the restore point lacks: a dump
    of some schemas references the platform's."""
    made = {each.identity for each in summary.created if each.kind is Kind.SCHEMA}
    named = {
        name.schema
        for each in placed(summary)
        if each.schema in schemas and not is_tie(each, schemas)
        for name in qualified(each.text)
    }
    wanted = [name for name in named - set(schemas) if quoted(name) not in made]
    found = live.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s) AND nspname !~ '^pg_'"
        " AND nspname <> 'information_schema' ORDER BY 1",
        [wanted],
    )
    return [name for (name,) in found]


def _partial(live: Connection, summary: DumpSummary, schemas: Collection[str]) -> bool:
    """Whether a restore point is a dump of some schemas: it has none of those that stay. Such a dump has no object of
    the whole database, a publication for example."""
    made = {each.identity for each in summary.created if each.kind is Kind.SCHEMA}
    staying = live.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname <> ALL (%s) AND nspname !~ '^(pg|lastgood)_'"
        " AND nspname <> 'information_schema'",
        [list(schemas)],
    ).fetchall()
    return bool(staying) and made.isdisjoint(quoted(name) for (name,) in staying)


def _completed(wished: Ties, present: Ties, summary: DumpSummary) -> Ties:
    """The ties of a dump of some schemas, with those of the live database that no such dump has: on the tables of other
    schemas, publications, event triggers and default privileges of the whole database. Publications keep the tables
    that the dump creates."""
    made = {each.identity for each in summary.created if each.kind is Kind.SCHEMA}
    publications = [
        each.model_copy(
            update={
                "members": tuple(one for one in each.members if Relation(one.schema_name, one.table) in summary.tables)
            }
        )
        for each in present.publications
    ]
    return wished.model_copy(
        update={
            "triggers": (*wished.triggers, *(one for one in present.triggers if quoted(one.schema_name) not in made)),
            "policies": (*wished.policies, *(one for one in present.policies if quoted(one.schema_name) not in made)),
            "publications": wished.publications or tuple(publications),
            "event_triggers": wished.event_triggers or present.event_triggers,
            "default_privileges": (
                *wished.default_privileges,
                *(each for each in present.default_privileges if not each.schema_name),
            ),
        }
    )


def _extensions(live: Connection, schemas: Iterable[str]) -> list[sql.Composed]:
    """The commands that create the extensions of these schemas, in the order of the live database."""
    found = live.execute(
        "SELECT e.extname, n.nspname FROM pg_catalog.pg_extension e"
        " JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE n.nspname = ANY (%s) ORDER BY e.oid",
        [list(schemas)],
    )
    commands = []
    for name, schema in found:
        commands.append(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema)))
        commands.append(
            sql.SQL("CREATE EXTENSION IF NOT EXISTS {} SCHEMA {}").format(sql.Identifier(name), sql.Identifier(schema))
        )
    return commands


# Materialized views whose query calls a user-defined function, also through other views. Built-in functions and those
# in C read no user tables.
_CALLING_VIEWS = """
WITH RECURSIVE reads (view, oid) AS (
  SELECT c.oid, c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = 'm' AND n.nspname = ANY (%s)
  UNION
  SELECT reads.view, d.refobjid FROM reads
  JOIN pg_catalog.pg_rewrite w ON w.ev_class = reads.oid
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
    AND d.refclassid = 'pg_catalog.pg_class'::regclass)
SELECT DISTINCT n.nspname, c.relname FROM reads
JOIN pg_catalog.pg_class c ON c.oid = reads.view JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_rewrite w ON w.ev_class = reads.oid
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = w.oid
  AND d.refclassid = 'pg_catalog.pg_proc'::regclass
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
WHERE p.oid >= 16384 AND p.prolang NOT IN (12, 13)
ORDER BY 1, 2
"""


class _Builder:
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
            if each.command.kind not in _LEFT_OUT | _ATTRIBUTES and not is_tie(each, ()):
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
        owners.dismiss(
            connection, self._schemas, new_owners
        )  # before the restore point's own privileges, which are ties
        self._tie(each for each in every if is_tie(each, self._schemas))

    def _wanted(self, each: Placed) -> bool:
        kind = each.command.kind
        if kind in _LEFT_OUT or kind is Kind.SCHEMA or is_tie(each, self._schemas):
            return False
        return self._own(each) or kind not in _ATTRIBUTES

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


# The facts of the restore point ---------------------------------------------------------------------------------------

_SCHEMA = re.compile(r'(?:"((?:[^"]|"")+)"|([^\s."(]+))\.')
_ON_RELATION = frozenset(
    {
        "primary key",
        "unique constraint",
        "exclusion constraint",
        "foreign key",
        "check constraint",
        "domain constraint",
        "trigger",
        "policy",
        "rule",
    }
)


def schema_of_object(kind: str, identity: str) -> str | None:
    """The schema in the identity of an object of the facts; None for an object without a schema."""
    text = identity.rpartition(" on ")[2] if kind in _ON_RELATION else identity
    found = _SCHEMA.match(text)
    if found is None:
        return None
    return found[1].replace('""', '"') if found[1] is not None else found[2]


def schemas_of(facts: Facts) -> frozenset[str]:
    """The schemas of a restore point. A dump does not create *public*, which every database has from the beginning."""
    created = {each.identity for each in facts.objects if each.kind == "schema"}
    unquoted = {each[1:-1].replace('""', '"') if each.startswith('"') else each for each in created}
    return frozenset({"public", *unquoted, *(table.schema_name for table in facts.tables)})


def _compare(
    facts: Facts, found: Iterable[ObjectFacts], schemas: Collection[str], unpopulated: Collection[str], name: str
) -> None:
    """Compare the created objects with those of the restore point's facts. Raises Failed with every difference."""
    sides = [
        {
            (each.kind, each.identity): each.digest
            for each in side
            if schema_of_object(each.kind, each.identity) in schemas
        }
        for side in (facts.objects, found)
    ]
    expected, created = sides
    lines: list[str] = []
    if facts.origin == "database" and facts.rules.definitions == DEFINITIONS:
        lines += [f"{kind} {identity}: missing" for kind, identity in sorted(expected.keys() - created.keys())]
        lines += [f"{kind} {identity}: not expected" for kind, identity in sorted(created.keys() - expected.keys())]
        lines += [
            f"{kind} {identity}: another definition"
            for kind, identity in sorted(expected.keys() & created.keys())
            if expected[kind, identity] != created[kind, identity] and identity not in unpopulated
        ]
    else:
        counts = [Counter(kind for kind, _ in side) for side in sides]
        lines += [
            f"number of objects of the kind {kind}: expected {counts[0][kind]}, found {counts[1][kind]}"
            for kind in sorted(counts[0].keys() | counts[1].keys())
            if counts[0][kind] != counts[1][kind]
        ]
    if lines:
        raise Failed(
            f'cannot rewrite the definitions of "{visible(name)}": {counted(len(lines), "difference")} from it'
            + "".join(f"\n  {visible(line)}" for line in lines[:SHOWN]),
            hint="Choose another restore point: lastgood points",
        )


# Names ----------------------------------------------------------------------------------------------------------------


_HAS_MEMBERS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
               WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass
                 AND d.refobjid = pg_catalog.to_regnamespace(%s))
    OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extnamespace = pg_catalog.to_regnamespace(%s))
"""


def _give_name(connection: Connection, schema: str, staging: str) -> None:
    """Give a schema the name of its staging schema; with members of an extension in it, which have to stay, move the
    other objects into a new schema."""
    identifier = quoted(schema)
    row = connection.execute(_HAS_MEMBERS, [identifier, identifier]).fetchone()
    if row is not None and not row[0]:
        connection.execute(
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(staging))
        )
        return
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(staging)))
    found, unknown = objects(connection, [schema])
    if unknown:
        raise Refused(
            f"cannot build staging schemas: {visible(unknown[0])}",
            hint="Go back by name (--by-name), or restore into another database: lastgood restore",
        )
    for each in found:
        connection.execute(each.set_schema(staging))


# pg_dump --------------------------------------------------------------------------------------------------------------


def dumped(program: Path, target: Target, schemas: Iterable[str], cancelled: Callable[[], bool]) -> bytes:
    """The definitions of schemas, as pg_dump writes them. Raises Failed, Interrupted."""
    conninfo, environment = target.child()
    arguments: list[str | Path] = [
        program,
        "--schema-only",
        "--encoding=UTF8",
        "--no-password",
        "--no-publications",
        "--no-subscriptions",
        # A name in double quotes is no pattern.
        *(f'--schema="{schema.replace(chr(34), chr(34) * 2)}"' for schema in schemas),
        f"--dbname={conninfo}",
    ]
    try:
        return run.run(
            arguments, environment={**environment, "PGAPPNAME": "lastgood pg_dump"}, cancelled=cancelled
        ).output
    except run.ChildFailed as error:
        if cancelled():
            raise Interrupted("interrupted while the definitions were read") from error
        raise Failed(
            f"cannot read the definitions of the staging schemas: {error}",
            hint="Fix the cause, then run the command again.",
        ) from error


@dataclass(frozen=True, slots=True)
class Text:
    """A dump in memory, as a source for the reader."""

    text: bytes

    def chunks(self) -> Iterator[bytes]:
        """The text."""
        yield self.text


def definitions_in(text: bytes) -> DumpSummary:
    """The summary of pg_dump's output, with its script. Raises BadPoint if it has a command that no restore may run."""
    reading = read(Text(text))
    for _ in reading.summary.script.recording(reading):
        pass
    return reading.summary


def left_to_the_swap(command: Command, staging: Collection[str], *, keys: bool = True) -> bool:
    """Whether a command of the rewritten text is for a schema itself or, with ``keys``, a foreign key to a table
    outside: these are not part of the build."""
    if isinstance(command.detail, ForeignKey):
        return keys and command.detail.references.schema not in staging
    if command.kind is Kind.SCHEMA or command.kind is Kind.DEFAULT_PRIVILEGES:
        return True
    if command.kind in _ATTRIBUTES:
        return object_class(parse(command.statement.text.decode())[0]) == "OBJECT_SCHEMA"
    return False


def _comments(definitions: DumpSummary) -> Mapping[tuple[Relation, str], bytes]:
    """The commands that set the comments of constraints of tables."""
    found = {}
    for item in definitions.script.items:
        if isinstance(item, Step) and item.command.kind is Kind.COMMENT:
            (node,) = parse(item.command.statement.text.decode())
            if node.objtype == "OBJECT_TABCONSTRAINT":
                schema, table, name = (part.sval for part in node.object)
                found[Relation(schema, table), name] = item.command.statement.text
    return found


def _keys(definitions: DumpSummary, staging: Collection[str]) -> Iterator[PlatformKey]:
    comments = _comments(definitions)
    for item in definitions.script.items:
        if not isinstance(item, Step) or not isinstance(item.command.detail, ForeignKey):
            continue
        key = item.command.detail
        if key.references.schema in staging:
            continue
        text = item.command.statement.text
        (node,) = parse(text.decode())
        given = node.cmds[0].def_
        yield PlatformKey(
            name=given.conname,
            table=key.table,
            columns=key.columns,
            references=key.references,
            keys=tuple(part.sval for part in given.pk_attrs or ()),
            on_delete=_ACTIONS[given.fk_del_action or "a"],
            set_columns=tuple(part.sval for part in given.fk_del_set_cols or ()),
            validated=not given.skip_validation,
            command=text,
            comment=comments.get((key.table, given.conname)),
        )
