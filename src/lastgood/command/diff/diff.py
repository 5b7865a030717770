"""The document of ``lastgood diff``, and the sides that its operands name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

import psycopg

from lastgood import points
from lastgood.difference import Change, Comparison, DatabaseSide, PointSide, Rename, Side, TableDifference
from lastgood.dump.names import Relation
from lastgood.errors import BadPoint, LastgoodError, UsageError
from lastgood.in_place import kept
from lastgood.models import Document, Frozen
from lastgood.postgres.kept import is_kept
from lastgood.postgres.server import Target
from lastgood.text import redact

LIVE = "the live database"
OF_URL = "the database of the URL"


class RowDifference(Frozen):
    """A differing row. ``a`` and ``b``: its values on each side, in the order of the table's ``columns``, as text; null
    where that side has no such row. ``columns``: those with other values."""

    change: Change
    key: tuple[str | None, ...]
    a: tuple[str | None, ...] | None
    b: tuple[str | None, ...] | None
    columns: tuple[str, ...]


class TableRows(Frozen):
    """The first differing rows of a table. ``more``: how many others there are."""

    table: str
    rows: tuple[RowDifference, ...]
    more: int


class DiffReport(Document):
    """The difference of two sides. ``equal``: every table was compared and is equal, with the same columns.
    ``renames``: tables of side ``a`` that may have another name on side ``b``. ``rows``: with --rows, of each table
    that differs. ``files``: with --output, what was written."""

    a: str
    b: str
    equal: bool
    tables: tuple[TableDifference, ...]
    renames: tuple[Rename, ...] = ()
    rows: tuple[TableRows, ...] = ()
    files: tuple[str, ...] = ()


def side_of(name: str, store: Path, server: Target, database: str | None) -> Side:
    """The side that an operand names: the URL of a database, a restore point, a kept database, or kept schemas by their
    name or run. Raises BadPoint."""
    if redact.is_url(name):
        return DatabaseSide(Target.parse(name), OF_URL)
    try:
        return PointSide(points.find(store, name), name, database)
    except BadPoint:
        with suppress(LastgoodError, psycopg.Error):  # otherwise report the missing restore point
            if is_kept(server, name):
                return DatabaseSide(server.at(name), name)
            for each in kept.schemas_in(server):
                if name in (each.name, each.run) and each.role != "staging":
                    return DatabaseSide(server, each.name, dict(zip(each.schemas, each.lives, strict=True)))
        raise


def live_side(server: Target) -> DatabaseSide:
    """The live database."""
    return DatabaseSide(server, LIVE)


def wanted(patterns: Sequence[str], sides: Sequence[Side]) -> Callable[[Relation], bool]:
    """The tables to compare: all, or those that match a pattern, of the schemas that every side has."""
    schemas = [
        {*side.schemas.values()} for side in sides if isinstance(side, DatabaseSide) and side.schemas is not None
    ]

    def chosen(relation: Relation) -> bool:
        if any(relation.schema not in each for each in schemas):
            return False
        return not patterns or any(_matches(relation, pattern) for pattern in patterns)

    return chosen


def refuse_unmatched(patterns: Sequence[str], relations: Collection[Relation]) -> None:
    """Raise UsageError for a pattern that matches no table: nothing would be compared, and nothing would differ."""
    for pattern in patterns:
        if not any(_matches(relation, pattern) for relation in relations):
            raise UsageError(
                f'cannot compare: no table matches "{pattern}"',
                hint="Names are case-sensitive, with or without the schema, and may have * and ?.",
            )


def _matches(relation: Relation, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (relation.name, f"{relation.schema}.{relation.name}"))


def differing(found: Comparison) -> Iterator[TableDifference]:
    """The tables with differing rows, those with the most first."""
    some = [each for each in found.tables if (each.only_a or 0) + (each.only_b or 0) + (each.changed or 0)]
    return iter(sorted(some, key=lambda each: -((each.only_a or 0) + (each.only_b or 0) + (each.changed or 0))))


def rows_of(found: Comparison, table: TableDifference, first: int, hidden: Collection[str]) -> TableRows:
    """The first differing rows of a table."""
    rows = [
        RowDifference.model_validate(row)
        for batch in found.rows(table, masked=hidden, first=first)
        for row in batch.to_pylist()
    ]
    total = (table.only_a or 0) + (table.only_b or 0) + (table.changed or 0)
    return TableRows(table=table.table, rows=tuple(rows), more=max(0, total - len(rows)))
