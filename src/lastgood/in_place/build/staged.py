"""The build of a restore point in staging schemas: rewritten definitions and the restore point's own rows, loaded into
the live database by the parallel engine. The application's roles cannot enter staging schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from psycopg import sql

from lastgood import fault
from lastgood.context import Context
from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.rows import encodings, inserts
from lastgood.dump.rulings import rule
from lastgood.dump.script import Bulk, Item, Script, ScriptStep, Section, State, rows_between
from lastgood.dump.statements import Kind, SequencePosition, Verdict
from lastgood.dump.summary import DumpSummary
from lastgood.errors import Refused
from lastgood.events import Emit, Note
from lastgood.facts import Facts, LargeObjectFacts
from lastgood.in_place import kept, marks
from lastgood.in_place.build import oid_names
from lastgood.in_place.build.confined import Confined, names_outside
from lastgood.in_place.build.left_out import LeftOut
from lastgood.in_place.definitions import default_privileges, owners
from lastgood.in_place.definitions.rewrite import Rewritten
from lastgood.in_place.marks import SchemaMark
from lastgood.in_place.marks import State as MarkState
from lastgood.load.crew import Connect
from lastgood.load.loaded import Loaded
from lastgood.load.rebuild import Dump, rebuild
from lastgood.load.repairs import Rules
from lastgood.load.supply import supply_for
from lastgood.postgres import clock
from lastgood.postgres.server import Connection, event_triggers_off, quiet_event_triggers
from lastgood.text.redact import visible

# A session of a role without privileges loads the rows: it can't become another role.
_IDENTITIES = frozenset({"session_authorization", "role"})


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin recorded in the marks of staging schemas: the run, the restore point, the operator's host and name,
    and the options of the run for another machine that resumes it."""

    run: str
    point: str
    host: str
    user: str
    options: Mapping[str, str] = field(default_factory=dict)


def build(
    dump: Dump,
    rewritten: Rewritten,
    origin: Origin,
    rules: Rules,
    context: Context,
    *,
    connect: Connect,
    watch: Callable[[], Connection],
    confined: Confined | None = None,
) -> Loaded:
    """Load the restore point into its staging schemas, which are created, or created again if an interrupted build of
    this run left them. The arguments are those of ``rebuild``; ``dump`` is the restore point, and ``connect`` opens
    sessions in the live database. ``confined``: the role that executes what may run code of the restore point; its
    objects get their owners and grants in ``prove``.

    Afterwards the schemas are marked as *built*, unless ``confined``. Their tables have all definitions of the restore
    point except foreign keys to tables that do not go back, which ``prove`` adds. Raises as ``rebuild`` does, and
    Refused for rows that are commands with computed values.
    """
    source, summary = dump.source, dump.summary
    connect = quietly(connect)
    named = oid_names.in_rows(dump, rewritten, context.cancelled)
    with connect("create staging schemas") as connection:
        script = script_of(summary, rewritten, dump.name, context.emit, _privileges(connection, rewritten))
        create_schemas(connection, rewritten.schemas, origin)
        commands = [item.command for item in rewritten.summary.script.items if isinstance(item, ScriptStep)]
        admitted = owners.others(connection, commands)
        owners.admit(connection, rewritten.schemas.values(), admitted)
    if confined is not None:
        confined.builder.need(names_outside(rewritten) | named.outside)
        with connect("verify access") as connection:
            oid_names.refuse_closed(connection, confined.builder.role.name, named.outside, dump.name)
        confined.admitted = admitted
    fault.point("inplace.after_create")
    numbers = {section.number for section in script.sections}
    supply = supply_for(source, summary.script, database=summary.database, in_place=not summary.notes, only=numbers)
    if named.places:
        supply = oid_names.StagedNames(supply, named)
    loaded = rebuild(
        replace(
            dump,
            summary=replace(rewritten.summary, script=script, encoding=summary.encoding),
            facts=facts_in_staging(dump.facts, rewritten.schemas, named.changed),
            division=None,
            held=(),
        ),
        replace(rules, within=tuple(rewritten.schemas.values())),
        context,
        connect=connect,
        watch=watch,
        supply=supply,
        builder=confined.builder if confined is not None else None,
    )
    fault.point("build.after_load")
    if confined is not None:
        confined.loaded = loaded
        return loaded
    with connect("mark staging schemas") as connection:
        owners.dismiss(connection, rewritten.schemas.values(), admitted)
        set_state(connection, origin.run, "built")
    return loaded


def quietly(connect: Connect) -> Connect:
    """Sessions without event triggers: those of a platform, which reloads its schema cache after each command, and
    those of the application, which may change new tables. Staging tables have no other triggers while rows come in."""

    @contextmanager
    def connected(purpose: str) -> Iterator[Connection]:
        with connect(purpose) as connection:
            quiet_event_triggers(connection)
            yield connection

    return connected


# The script -----------------------------------------------------------------------------------------------------------


def script_of(
    summary: DumpSummary, rewritten: Rewritten, name: str, emit: Emit, privileges: Sequence[ScriptStep] = ()
) -> Script:
    """The script of a build: the rewritten definitions with ``privileges`` before the restore point's own, its sections
    of rows with other names in their heads, the positions of its sequences, and REFRESH of its materialized views.
    Sections keep their numbers, with which the restore point's own supply finds their rows."""
    definitions: list[Item] = [
        replace(item, state=_without_identity(item.state))
        for item in rewritten.summary.script.items
        if isinstance(item, ScriptStep)
    ]
    granting = (
        n for n, item in enumerate(definitions) if isinstance(item, ScriptStep) and item.command.kind is Kind.GRANT
    )
    at = next(granting, len(definitions))
    definitions[at:at] = privileges
    rows: list[Item] = []
    refresh: list[Item] = []
    for item in _rows(summary, rewritten, name, emit):
        (refresh if isinstance(item, ScriptStep) and item.command.kind is Kind.REFRESH else rows).append(item)
    return Script([*rows_between([*definitions, *rows], [len(definitions)]), *refresh], summary.script.in_place)


def _rows(summary: DumpSummary, rewritten: Rewritten, name: str, emit: Emit) -> Iterator[Item]:
    codec = encodings.codec(summary.encoding) or "utf-8"
    for item in summary.script.items:
        match item:
            case Section():
                staged = rewritten.staged(item.start.relation)
                if staged is None:
                    continue
                if staged not in rewritten.summary.tables:
                    emit(Note(f"rows of {item.start.relation} are not loaded: the table belongs to an extension"))
                    continue
                copy = inserts.copy_command(staged, item.start.columns).encode(codec)
                start = replace(item.start, relation=staged, copy=copy)
                yield replace(item, start=start, state=_without_identity(item.state))
            case Bulk(inserts=True):
                raise Refused(
                    f'cannot restore "{visible(name)}" in place: line {item.line} is an INSERT with expressions',
                    hint="Choose a restore point that was made without --inserts: lastgood points",
                )
            case Bulk():
                emit(Note("large objects belong to no schema and are not rolled back"))
            case ScriptStep():
                if (changed := _of_rows(item, rewritten)) is not None:
                    yield changed


def _of_rows(step: ScriptStep, rewritten: Rewritten) -> ScriptStep | None:
    """A sequence's position, or a REFRESH, under the staging name; None for any other command."""
    command = step.command
    if command.verdict is not Verdict.RUN or not command.relations:
        return None
    staged = rewritten.staged(command.relations[0])
    if staged is None:
        return None
    match command.kind, command.detail:
        case Kind.SEQUENCE_POSITION, SequencePosition(last_value=last, is_called=called):
            text = sql.SQL("SELECT pg_catalog.setval({}, {}, {})").format(
                sql.Literal(str(staged)), sql.SQL(str(last)), sql.SQL("true" if called else "false")
            )
        case Kind.REFRESH, _:
            text = sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(staged.schema, staged.name))
        case _:
            return None
    statement = Statement(text.as_bytes(), command.statement.offset, command.statement.line)
    return ScriptStep(rule(statement), _without_identity(step.state))


def _privileges(connection: Connection, rewritten: Rewritten) -> list[ScriptStep]:
    """The commands against default privileges of the whole database."""
    types = [
        each.identity for each in rewritten.summary.created if each.kind in (Kind.TYPE, Kind.DOMAIN)
    ]  # in the server's notation
    commands = default_privileges.without_effect(connection, rewritten.schemas.values(), types)
    return [ScriptStep(rule(Statement(command.as_bytes(connection), 0, 0)), ()) for command in commands]


def _without_identity(state: State) -> State:
    if _IDENTITIES.isdisjoint(name for name, _ in state):
        return state
    return tuple(each for each in state if each[0] not in _IDENTITIES)


# The facts ------------------------------------------------------------------------------------------------------------


def facts_in_staging(facts: Facts, schemas: Mapping[str, str], left_out: Iterable[LeftOut] = ()) -> Facts:
    """The restore point's facts of the schemas that go back, under their staging names: tables and sequences. The
    other facts have names of schemas in them, or belong to the whole database. ``left_out``: the rows that differ."""
    changed = {(each.schema_name, each.table): each for each in left_out}
    tables = []
    for table in facts.tables:
        if table.schema_name in schemas:
            change = changed.get((table.schema_name, table.name))
            after = table if change is None else change.applied(table)
            tables.append(after.model_copy(update={"schema_name": schemas[table.schema_name]}))
    return facts.model_copy(
        update={
            "tables": tuple(tables),
            "sequences": tuple(
                each.model_copy(update={"schema_name": schemas[each.schema_name]})
                for each in facts.sequences
                if each.schema_name in schemas
            ),
            "not_recorded": tuple(
                f"{staging}.{named.removeprefix(f'{schema}.')}"
                for named in facts.not_recorded
                for schema, staging in schemas.items()
                if named.startswith(f"{schema}.")
            ),
            "large_objects": LargeObjectFacts(),
            "extensions": (),
            "languages": (),
            "migration": None,
            "object_counts": {},
            "objects": (),
        }
    )


# The schemas ----------------------------------------------------------------------------------------------------------

_GRANTED = """
SELECT CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END
FROM pg_catalog.pg_namespace n, pg_catalog.aclexplode(n.nspacl) a
WHERE n.nspname = %s AND a.grantee <> n.nspowner
GROUP BY 1
"""


def create_schemas(connection: Connection, schemas: Mapping[str, str], origin: Origin) -> None:
    """Create the staging schemas, marked as *building*, after the run's former ones were dropped. Only their owner may
    enter them."""
    drop_schemas(connection, origin.run)
    for schema, staging in schemas.items():
        with connection.transaction():
            taken = connection.execute(
                "SELECT pg_catalog.pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = %s", [staging]
            ).fetchone()
            if taken is not None:
                raise Refused(
                    f'cannot create the staging schema "{visible(staging)}": role "{visible(taken[0])}" has a schema '
                    "of that name",
                    hint="Run lastgood status to see the runs.",
                )
            name = sql.Identifier(staging)
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
            for (grantee,) in connection.execute(_GRANTED, [staging]).fetchall():  # by default privileges
                connection.execute(sql.SQL("REVOKE ALL ON SCHEMA {} FROM {}").format(name, sql.SQL(grantee)))
            mark = SchemaMark(
                role="staging",
                run=origin.run,
                live=schema,
                made_at=clock.now(connection),
                state="building",
                point=origin.point,
                host=origin.host,
                user=origin.user,
                options=dict(origin.options),
            )
            marks.write(connection, staging, mark)


def drop_schemas(connection: Connection, run: str, *, cancelled: Callable[[], bool] = lambda: False) -> tuple[str, ...]:
    """Drop the staging schemas of a run, with their foreign keys to the platform's tables. Return their names. Raises
    as ``kept.drop`` does."""
    dropped: list[str] = []
    for left in kept.run_schemas(connection, run=run, role="staging"):
        kept.drop(connection, left, cancelled=cancelled)
        dropped += left.schemas
    return tuple(dropped)


def set_state(connection: Connection, run: str, state: MarkState, *, manifest: str | None = None) -> None:
    """Mark all staging schemas of a run, in one transaction. *proved* needs the digest of the manifest."""
    with event_triggers_off(connection), connection.transaction():
        for each in marks.marked(connection, run=run, role="staging"):
            if not each.ours:
                continue
            mark = each.mark.model_copy(update={"state": state})
            if state == "proved" and manifest is not None:
                mark = marks.proved(connection, each.mark, manifest)
            marks.write(connection, each.name, mark)
