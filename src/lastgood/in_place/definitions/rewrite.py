"""The definitions of a restore point under the names of staging schemas, rewritten by the server itself.

The definitions are created in a scratch database and compared with the facts of the restore point. Then the schemas
that go back get the names of their staging schemas, and pg_dump writes them. Names in expressions, views, policies and
bodies of BEGIN ATOMIC functions follow, because the server writes them; the text of other function bodies, and
``SET search_path``, remain as they are, which is right after the swap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from psycopg import sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.names import Relation, quoted
from lastgood.dump.script import ScriptStep
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Refused
from lastgood.events import Caution, Note
from lastgood.facts import Facts
from lastgood.facts.objects import read_objects
from lastgood.in_place import survey
from lastgood.in_place.build import late_checks
from lastgood.in_place.definitions import against_facts, by_code, from_live, ownership, ranges
from lastgood.in_place.definitions.dumped import definitions_in, dumped, left_to_the_swap
from lastgood.in_place.definitions.ranges import RangeType
from lastgood.in_place.definitions.recreate import TOGETHER, Recreation
from lastgood.in_place.definitions.scratch import Confinement, Scratch, scratch
from lastgood.in_place.definitions.sorting import event_triggers, outside, placed
from lastgood.in_place.marks import Check, GeneratedColumn
from lastgood.in_place.platform.keys import PlatformKey, keys_in
from lastgood.in_place.ties import Ties, evaluated, queries
from lastgood.load.builder import UNGUARD, runs_when_read
from lastgood.load.hand_over import close_unchanged
from lastgood.load.loaded import Loaded
from lastgood.load.repairs import Commands, Rules
from lastgood.load.session import LoadSession
from lastgood.postgres import binaries, oid_columns
from lastgood.postgres.oid_columns import OidColumn
from lastgood.postgres.server import Connection, Target
from lastgood.text.redact import visible


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The definitions of a restore point, rewritten: ``schemas`` has the staging schema of each schema that goes back.

    ``summary`` is that of pg_dump's output from the scratch database, whose script has the definitions without the
    schemas themselves and without ``keys``. ``ties``: what the swap makes again. ``refresh``: the materialized views
    that call functions, whose text may name live tables: they are to be refreshed after the swap (live names).
    ``checks`` and ``columns``: those to be verified after the swap for the same reason.
    ``lent``: schemas outside that the restore point lacks, and whose definitions are the live database's; the ties
    outside are the live ones then, too. ``not_created``: objects outside the schemas that the scratch database lacks,
    and that none of the definitions needs. ``oid_columns``: the columns whose values are names of objects.
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
    oid_columns: tuple[OidColumn, ...]

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
    confinement: Confinement | None = None,
    *,
    removal: ExitStack,
) -> Rewritten:
    """Rewrite the definitions of a restore point, of which ``summary`` and ``facts`` are known, for ``schemas``: each
    schema of it that goes back (``placed.schemas`` has all), with the name of its staging schema. ``name`` is the
    restore point's, for messages. ``confinement``: who executes code of the restore point, None for the operator.
    ``removal``: with its end the scratch database is dropped at the latest.

    Only the scratch database is written to. Raises Refused when the restore point has objects that can't be staged,
    Failed when a definition can't be created or differs from the restore point's, Interrupted.
    """
    every = tuple(placed(summary))
    if without_schema := outside(every, schemas):
        raise Refused(
            f'cannot restore "{visible(name)}" in place: '
            f"{', '.join(map(visible, without_schema))}: outside of all schemas",
            hint="Roll back by name (--by-name), or restore into another database: lastgood restore",
        )
    with target.connect(application_name="lastgood rewrite") as live:
        major, role = live.info.server_version // 10000, live.info.user
        superuser = live.info.parameter_status("is_superuser") == "on"
        bare = not (summary.has_owners and summary.has_acls)
        carries = ownership.of_schemas(live, schemas) if bare else None
        live_ranges = ranges.staying(live, schemas)
        borrowed = from_live.schemas_lent(live, summary, every, schemas)
        extensions = from_live.extensions(live, {*borrowed, *schemas}) if not summary.extensions else []
        present = queries.read(live, schemas) if borrowed or from_live.is_partial(live, summary, schemas) else None
    program = binaries.find("pg_dump", at_least=major)
    roles = summary.roles | (ownership.roles(carries) if carries is not None else frozenset())
    with (
        scratch(target, major, role, roles, context.emit, confinement, removal=removal) as made,
        _sessions(made, name, rules, context) as (session, operator),
    ):
        if made.builder is not None:
            made.builder.renews = runs_when_read(summary)
        builder = Recreation(session, operator, schemas, context.cancelled, made.builder)
        if borrowed:
            context.emit(
                Note(f"the restore point lacks {', '.join(borrowed)}: the definitions of the live database are used")
            )
        builder.create(
            every,
            extensions,
            definitions_in(dumped(program.path, target, borrowed, context.cancelled)) if borrowed else None,
        )
        session.enter(())
        stay = [] if superuser else ranges.ranges(made.connection, schemas)
        prevents, remains = ranges.differences(stay, live_ranges, privileges=not bare)
        if prevents := prevents or ranges.immovable(stay):
            raise Refused(
                f'cannot restore "{visible(name)}" in place: {visible(prevents[0])}',
                hint="Roll back as a superuser, or restore into another database: lastgood restore",
            )
        for remark in remains:
            context.emit(Caution(remark))
        compared = read_objects(made.connection)
        against_facts.compare(facts, compared, schemas, builder.unpopulated, name)
        refresh = [Relation(*row) for row in made.connection.execute(_CALLING_VIEWS, [list(schemas)])]
        checks = late_checks.postpone(session.connection, schemas)
        if made.builder is not None and made.maintenance is not None:
            close_unchanged(made.maintenance, made.builder.role)
            for statement in UNGUARD:
                made.connection.execute(statement)
            by_code.refuse(made.connection, made.builder, compared, every, schemas, checks)
            builder.hand_over()
        if carries is not None:
            missing = {"owners": not summary.has_owners, "acls": not summary.has_acls}
            for remark in ownership.carry_over(carries, made.connection, schemas, **missing):
                context.emit(Note(remark))
        wished = queries.read(made.connection, schemas).model_copy(
            update={"event_triggers": event_triggers(every, schemas)}
        )
        if present is not None:
            wished = from_live.completed(wished, present, summary)
        if confinement is not None:
            evaluated.refuse(made.connection, wished, f'restore "{visible(name)}" in place')
        columns = late_checks.generated_columns(made.connection, schemas)
        for index in late_checks.indexes(made.connection, schemas):
            context.emit(
                Caution(
                    f"index {index} uses a function that may read the live tables while it is built; after the switch, "
                    f"run: REINDEX INDEX CONCURRENTLY {index}"
                )
            )
        named = oid_columns.find(made.connection, schemas)
        fault.point("inplace.in_scratch")
        for schema, staging in schemas.items():
            _give_name(made.connection, schema, staging, stay)
        text = dumped(program.path, made.target, schemas.values(), context.cancelled)
    definitions = definitions_in(text)
    keys = tuple(keys_in(definitions, schemas))
    of_keys = {key.comment for key in keys if key.comment is not None}
    definitions.script.items = [
        item
        for item in definitions.script.items
        if isinstance(item, ScriptStep)
        and not left_to_the_swap(item.command, schemas.values())
        and item.command.statement.text not in of_keys
    ]
    for left_out in builder.not_created:
        context.emit(Note(f"not created in the scratch database: {left_out}"))
    return Rewritten(
        schemas=schemas,
        summary=definitions,
        keys=keys,
        ties=wished,
        refresh=tuple(refresh),
        checks=checks,
        columns=columns,
        lent=tuple(borrowed),
        not_created=tuple(builder.not_created),
        oid_columns=named,
    )


@contextmanager
def _sessions(made: Scratch, name: str, rules: Rules, context: Context) -> Iterator[tuple[LoadSession, LoadSession]]:
    """The session that executes what may run code of the restore point, and that of the operator."""
    beside_code = made.builder is not None
    operator = LoadSession(made.connection, Commands(name, rules, context), Loaded(), beside_code=beside_code)
    if made.builder is None:
        yield operator, operator
        return
    with made.builder.connect("definitions") as connection:
        commands = Commands(name, rules, context, builder=made.builder)
        yield LoadSession(connection, commands, Loaded(), made.builder), operator


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
_HAS_MEMBERS = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_depend d
               JOIN pg_catalog.pg_depend e ON e.classid = d.classid AND e.objid = d.objid AND e.deptype = 'e'
               WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass
                 AND d.refobjid = pg_catalog.to_regnamespace(%s))
    OR EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extnamespace = pg_catalog.to_regnamespace(%s))
"""


def _give_name(connection: Connection, schema: str, staging: str, stay: Sequence[RangeType]) -> None:
    """Give a schema the name of its staging schema; with members of an extension or the range types ``stay`` in it,
    which have to stay, move the other objects into a new schema."""
    identifier = quoted(schema)
    row = connection.execute(_HAS_MEMBERS, [identifier, identifier]).fetchone()
    if row is not None and not row[0] and all(each.name.names[0] != schema for each in stay):
        connection.execute(
            sql.SQL("ALTER SCHEMA {} RENAME TO {}").format(sql.Identifier(schema), sql.Identifier(staging))
        )
        return
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(staging)))
    found, unknown = survey.objects(connection, [schema], stay)
    if unknown:
        raise Refused(
            f"cannot build staging schemas: {visible(unknown[0])}",
            hint="Roll back by name (--by-name), or restore into another database: lastgood restore",
        )
    for number in range(0, len(found), TOGETHER):
        connection.execute(sql.SQL("; ").join(each.set_schema(staging) for each in found[number : number + TOGETHER]))
