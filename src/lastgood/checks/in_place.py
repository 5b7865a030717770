"""The conditions of an exchange in place, and the objects that it does not roll back."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from lastgood.checklist import Finding, Passed
from lastgood.checks.subject import Subject
from lastgood.postgres.table_code import not_to_query
from lastgood.text.units import counted

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


def _rows_added_outside(s: Subject) -> Iterator[Finding]:
    """Tables that are not rolled back and that the schemas refer to (such as users), if they have more rows than at the
    restore point."""
    if s.in_place is None or s.facts is None:
        return
    rows_at_point = {(each.schema_name, each.name): each.rows for each in s.facts.tables}
    keys = s.in_place.survey.ties.foreign_keys
    without = not_to_query(s.live)
    for schema, table in sorted({(key.target_schema, key.target_table) for key in keys}):
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
