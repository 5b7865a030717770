"""The report of a trial as data: the document that ``deploy --dry-run --json`` prints."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from lastgood.command.deploy.report import CommandReport, ValidationSummary, Worse
from lastgood.facts import Facts
from lastgood.facts.compare import Comparison
from lastgood.models import Document, Frozen
from lastgood.postgres.server import Connection

_COLUMNS = """
SELECT n.nspname, c.relname, pg_catalog.array_agg(a.attname::text ORDER BY a.attnum)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
GROUP BY 1, 2
"""
Columns = Mapping[tuple[str, str], tuple[str, ...]]


class ChangedTable(Frozen):
    """A table that the migration changes. A row count is null if the table does not exist. ``content``: whether the
    rows differ in the columns that existed before; null if that is unknown."""

    schema_name: str = Field(serialization_alias="schema")
    name: str
    rows_before: int | None
    rows_after: int | None
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    content: bool | None


class HeldLock(Frozen):
    """A lock of the migration on an existing table, held for about ``seconds``; ``blocks`` names the sessions that
    would wait. ``bytes`` and ``rows`` of the table are estimates of the server."""

    table: str
    mode: str
    blocks: str
    seconds: float
    bytes: int
    rows: int


class TrialReport(Document):
    """The effects of the migration on a clone of the live database. ``problem`` is empty if it succeeded and the data
    is no worse. ``added``, ``removed`` and ``changed`` name schema objects, each with its kind."""

    run: str
    live: str
    problem: str
    command: CommandReport
    before: ValidationSummary | None
    after: ValidationSummary | None
    worse: tuple[Worse, ...]
    tables: tuple[ChangedTable, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    migration_before: str | None
    migration_after: str | None
    locks: tuple[HeldLock, ...]
    seconds: dict[str, float]


def columns(connection: Connection) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the columns of each table."""
    return {(schema, name): tuple(names) for schema, name, names in connection.execute(_COLUMNS)}


def tables_of(facts: Facts, now: Facts, found: Comparison, then: Columns, later: Columns) -> tuple[ChangedTable, ...]:
    """Return the tables that differ, ordered by name."""
    rows = [{(each.schema_name, each.name): each.rows for each in side.tables} for side in (facts, now)]
    equal = {(each.schema_name, each.name): each.equal for each in found.tables}
    result = []
    for key in sorted({*rows[0], *rows[1]}):
        there = key in rows[0] and key in rows[1]
        before, after = then.get(key, ()), later.get(key, ())
        content = None if not there else None if equal.get(key) is None else not equal[key]
        if there and before != after and set(before) - set(after):
            content = None  # rows cannot be compared without one of the columns
        table = ChangedTable(
            schema_name=key[0],
            name=key[1],
            rows_before=rows[0].get(key),
            rows_after=rows[1].get(key),
            columns_added=tuple(name for name in after if there and name not in before),
            columns_removed=tuple(name for name in before if there and name not in after),
            content=content,
        )
        if not there or table.columns_added or table.columns_removed or table.content is not False:
            result.append(table)
    return tuple(result)


def objects_of(facts: Facts, now: Facts) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return schema objects that are new, removed, or changed."""
    then = {(each.kind, each.identity): each.digest for each in facts.objects}
    later = {(each.kind, each.identity): each.digest for each in now.objects}
    names = [sorted(later.keys() - then.keys()), sorted(then.keys() - later.keys())]
    names.append(sorted(key for key in then.keys() & later.keys() if then[key] != later[key]))
    added, removed, changed = (tuple(f"{kind} {identity}" for kind, identity in each) for each in names)
    return added, removed, changed
