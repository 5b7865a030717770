"""The conditions of an exchange in place, and the objects that it does not roll back."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lastgood.checklist import OTHER_WAY, Finding, Passed
from lastgood.checks.code import SHOWN, code_run, going
from lastgood.checks.subject import Subject
from lastgood.dump.names import Relation
from lastgood.dump.rulings.code import GENERATED, PLANNED
from lastgood.dump.rulings.tree import qualified
from lastgood.dump.script import ScriptStep
from lastgood.dump.statements import ForeignKeyDefinition, Kind
from lastgood.errors import OR_TRUST
from lastgood.in_place.capabilities import probe
from lastgood.in_place.definitions import sorting
from lastgood.in_place.exchange import locking
from lastgood.in_place.platform import keys
from lastgood.in_place.ties import evaluated
from lastgood.load.code import Code
from lastgood.load.family import Family
from lastgood.postgres.access import row_security
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.text.quoting import identifier
from lastgood.text.units import counted, listed

_HINT = "To see all rights of this role: lastgood check --capabilities"


def able(s: Subject) -> Iterator[Finding | Passed]:
    """The rights for the exchange, tried in transactions that were rolled back."""
    if s.in_place is None:
        return
    missing = s.in_place.capabilities.missing()
    for answer in missing:
        yield Finding(
            level="refusal",
            code="cannot_switch_in_place",
            text=f"this role may not {answer.text}",
            hint=_HINT,
            known="tried",
            final=True,
        )
    if not s.in_place.capabilities.schemas:
        yield Finding(
            level="refusal",
            code="no_own_schema",
            text="this role owns no schema that can be rolled back in place",
            hint="Connect as the owner of the application's schemas.",
            final=True,
        )
    elif not missing:
        yield Passed(text="this role may exchange the objects of its schemas", known="tried")


def objects(s: Subject) -> Iterator[Finding]:
    """Objects that cannot be moved, and what depends on the schemas from outside."""
    if s.in_place is None:
        return
    for text in s.in_place.survey.refusals:
        yield Finding(level="refusal", code="cannot_be_moved", text=text, hint=_HINT, final=True)
    for text in s.in_place.survey.cautions:
        yield Finding(level="caution", code="moved", text=text)
    if not s.request.code.trusted:
        # The undo of the rollback would create them again.
        for tie in evaluated.evaluated(s.live, s.in_place.survey.ties):
            yield Finding(
                level="refusal",
                code="code_needs_rights",
                text=str(tie),
                hint=evaluated.HINT,
                known="looked up",
                final=True,
            )
    for each in locking.prepared(s.live, s.in_place.survey.schemas, s.in_place.survey.ties.tables()):
        yield Finding(level="caution", code="prepared_transaction", text=f"the switch has to wait for {each}")


def outside(s: Subject) -> Iterator[Finding]:
    """Objects of the restore point that belong to no schema, and use what goes back."""
    schemas = going(s)
    if s.summary is None or schemas is None:
        return
    for what in sorting.outside(sorting.placed(s.summary), schemas):
        yield Finding(
            level="refusal",
            code="outside_of_schemas",
            text=f"{what} of the restore point cannot be restored in place: it is outside of all schemas",
            hint="Roll back by name (--by-name), or restore into another database: lastgood restore",
            final=True,
        )


def keys_with_code(s: Subject) -> Iterator[Finding]:
    """Foreign keys of partitioned tables that a server before 18 can only add for a role that runs code of the restore
    point meanwhile."""
    schemas = going(s)
    if s.summary is None or schemas is None or s.live.info.server_version >= keys.NOT_VALID_ON_PARTITIONED:
        return
    run = code_run(s.maintenance, s.summary, s.request.code)
    if run is None or not run.confined:
        return
    items = list(s.summary.script.items)
    family, code = Family(items, s.summary), Code()
    coded: set[Relation] = set()
    for item in items:
        if isinstance(item, ScriptStep):
            code.note(item.command)
            if not _EVALUATED.isdisjoint(item.command.code) and code.runs_in(item.command):
                coded.update(item.command.relations[:1])
    for item in items:
        key = item.command.detail if isinstance(item, ScriptStep) else None
        if not isinstance(key, ForeignKeyDefinition) or key.references.schema in schemas:
            continue
        definition = s.summary.tables.get(key.table)
        if definition is not None and definition.partitioned and not coded.isdisjoint(family.around(key.table)):
            yield Finding(
                level="refusal",
                code="key_needs_code",
                text=f"the foreign key of {key.table} to {key.references} cannot be validated: definitions of the "
                "table call functions, which would run with your rights",
                hint=OR_TRUST,
                final=True,
            )


def late_views(s: Subject) -> Iterator[Finding]:
    """Materialized views that call functions of the restore point, also through other views. Their text may name tables
    of the live schemas, so that only a REFRESH after the switch reads the restored ones."""
    schemas = going(s)
    if s.summary is None or schemas is None:
        return
    code = Code()
    calling: set[Relation] = set()
    late: list[str] = []
    for each in sorting.placed(s.summary):
        command = each.command
        code.note(command)
        if command.kind not in (Kind.VIEW, Kind.MATERIALIZED_VIEW) or not command.creates:
            continue
        reads = command.reads or {name for name in qualified(each.text) if name not in command.relations}
        if code.runs_in(command) or not calling.isdisjoint(reads):
            calling.update(command.relations[:1])
            if command.kind is Kind.MATERIALIZED_VIEW and each.schema in schemas:
                late.append(str(command.relations[0]))
    if late:
        views = "materialized view" if len(late) == 1 else "materialized views"
        yield Finding(
            level="note",
            code="refreshed_late",
            text=f"{views} {listed(late, SHOWN)}: refreshed after the switch, and possibly empty until then, because "
            "functions in the query may read tables by name",
            known="looked up",
        )


# What a query over a table evaluates.
_EVALUATED = PLANNED - {GENERATED}


def _rows_added_outside(s: Subject) -> Iterator[Finding]:
    """Tables that are not rolled back and that the schemas refer to (such as users), if they have more rows than at the
    restore point."""
    if s.in_place is None or s.facts is None:
        return
    rows_at_point = {(each.schema_name, each.name): each.rows for each in s.facts.tables}
    ties = s.in_place.survey.ties.foreign_keys
    without = not_to_query(s.live) | {(each.schema, each.name) for each in row_security.hiding_tables(s.live)}
    for schema, table in sorted({(key.target_schema, key.target_table) for key in ties}):
        if (schema, table) not in rows_at_point or (schema, table) in without:
            continue
        count = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table))
        row = s.live.execute(count).fetchone()
        added = (row[0] if row is not None else 0) - rows_at_point[schema, table]
        if added > 0:
            yield Finding(
                level="caution",
                code="rows_added_outside",
                text=f"{schema}.{table} is not rolled back and has {counted(added, 'row')} more than at the restore "
                "point: rows that refer to them remain in the kept schemas only",
            )


def other_way(s: Subject) -> Iterator[Finding]:
    """The way to switch that was not chosen."""
    capabilities = probe(s.live)
    if s.in_place is not None:
        text = "the databases can exchange their names instead: --by-name" if capabilities.by_name else ""
    elif capabilities.in_place:
        text = "the schemas can be exchanged inside the database instead: --in-place"
    else:
        why = next((f"this role may not {each.text}" for each in capabilities.missing()), "this role owns no schema")
        text = f"the schemas cannot be exchanged inside the database instead: {why}"
    if text:
        yield Finding(level="note", code=OTHER_WAY, text=text, item="privileges", known="tried")


# Tables of this role, and none of an extension.
_OWN_TABLES = """
SELECT n.nspname::text, count(*), min(c.relname)::text, min(current_user)::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relowner = current_user::regrole AND n.nspname = ANY (%s)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                  WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
GROUP BY 1 ORDER BY 1
"""


def left_behind(s: Subject) -> Iterator[Finding]:
    """Tables of this role in schemas that stay: the application's own, probably, and they would not go back."""
    if s.in_place is None or s.request.schemas:
        return
    staying = {each.schema: each.reason for each in s.in_place.capabilities.staying}
    for schema, count, first, me in s.live.execute(_OWN_TABLES, [list(staying)]).fetchall():
        yield Finding(
            level="refusal",
            code="own_tables_stay",
            text=f'{counted(count, "table")} of this role ({first}) would not be rolled back: schema "{schema}" stays, '
            f"since {staying[schema]}",
            hint=f"As a superuser: ALTER SCHEMA {identifier(schema)} OWNER TO {identifier(me)}",
        )
    if s.facts is None:
        return
    lost = [
        f"{each.schema_name}.{each.name}"
        for each in s.facts.tables
        if each.schema_name in staying and not _exists(s, each.schema_name, each.name)
    ]
    if lost:
        yield Finding(
            level="caution",
            code="missing_tables_stay",
            text=f"{counted(len(lost), 'table')} of the restore point ({lost[0]}) "
            + (
                "no longer exists, and its schema stays: it is"
                if len(lost) == 1
                else "no longer exist, and their schemas stay: they are"
            )
            + " not restored",
        )


def _exists(s: Subject, schema: str, table: str) -> bool:
    row = s.live.execute(
        "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND c.relname = %s",
        [schema, table],
    ).fetchone()
    return row is not None


def scope(s: Subject) -> Iterator[Finding | Passed]:
    """The schemas that are rolled back, and those that are not."""
    if s.in_place is None:
        return
    capabilities = s.in_place.capabilities
    if capabilities.schemas:
        yield Passed(text=f"these schemas are rolled back: {', '.join(capabilities.schemas)}")
    if capabilities.staying:
        yield Finding(
            level="note",
            code="schemas_stay",
            text="these schemas are not rolled back: " + ", ".join(each.schema for each in capabilities.staying),
        )
    yield from _rows_added_outside(s)
    large = s.facts.large_objects.count if s.facts is not None and s.facts.large_objects is not None else 0
    if large:
        yield Finding(
            level="caution",
            code="large_objects_stay",
            text=f"large objects belong to no schema: those of the live database remain, and the restore point's "
            f"{large:,} are not restored",
        )
