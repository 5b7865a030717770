"""Detection of partial restore points: a partial dump is a valid file, but can't replace a whole database.

Objects that a dump omits without a trace (comments, a table that nothing refers to) cannot be detected.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Literal

from lastgood.dump.entries import Rows, RowsStart
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.hints import ANOTHER
from lastgood.dump.names import Relation, shown
from lastgood.dump.needs import MissingObject, missing_objects
from lastgood.dump.reader import read
from lastgood.dump.script import ScriptStep
from lastgood.dump.statements import ForeignKeyDefinition, Kind
from lastgood.dump.summary import DumpSummary
from lastgood.errors import BadPoint
from lastgood.points.point import RestorePoint
from lastgood.text.units import counted, listed

SHOWN = 5
_BOTH = "lastgood restore SCHEMA DATA --into NAME"


class PartialPoint(BadPoint):
    """The restore point is a valid file, but lacks too much of its database to be restored."""

    code = "partial_point"


@dataclass(frozen=True, slots=True)
class MissingPart:
    """The missing part of a restore point. ``short`` completes "it has no"; ``message`` is the complete reason, with
    its ``hint``.

    A point without ``rows`` or ``data`` can be restored to a database without them; one without ``tables`` or
    ``objects`` cannot be restored.
    """

    what: Literal["anything", "tables", "objects", "data", "rows"]
    short: str
    message: str
    hint: str

    @property
    def restorable(self) -> bool:
        """Whether a database can be restored from it."""
        return self.what not in ("tables", "objects")


def missing_part(point: RestorePoint, summary: DumpSummary) -> MissingPart | None:
    """The part of a whole database that a restore point lacks; None when nothing is known to be missing.

    A point made by lastgood always covers the whole database, even an empty one: its manifest records that.
    """
    if point.manifest is not None:
        return None
    sections = any(summary.script.sections)
    if not (summary.has_schema or summary.has_data):
        return _nothing(summary)
    if sections and not summary.tables and not summary.makes_extensions:
        return MissingPart(
            "tables",
            "tables",
            "it has no tables, only rows: no table exists to load them into",
            f"Give the file with the definitions too: {_BOTH}",
        )
    if absent := missing_objects(summary):
        return _objects(absent)
    unfilled = summary.tables_without_data
    if not unfilled and (summary.has_data or not _makes_sequences(summary)):
        return None
    carrying = [relation for relation, definition in summary.tables.items() if definition.carries_rows]
    if not sections and len(unfilled) == len(carrying):
        return MissingPart(
            "data",
            "data",
            "it has no data, only definitions: a database restored from it would be empty",
            f"Give the file with the rows too: {_BOTH}",
        )
    return MissingPart("rows", f"rows for {_listed(unfilled)}", f"no rows for {_listed(unfilled)}", ANOTHER)


def _nothing(summary: DumpSummary) -> MissingPart:
    steps = (item.command.kind for item in summary.script.items if isinstance(item, ScriptStep))
    if Kind.STATISTICS_CALL in steps:
        return MissingPart("tables", "tables and no rows", "it has no tables and no rows, only statistics", ANOTHER)
    message = "the database is empty: no tables and no rows"
    return MissingPart("anything", "tables and no rows", message, ANOTHER)


def _objects(absent: tuple[MissingObject, ...]) -> MissingPart:
    first = absent[0]
    more = f", and {len(absent) - 1} more" if len(absent) > 1 else ""
    short = f"definition of {shown(first.name)}, which {shown(first.needed_by)} needs{more}"
    return MissingPart("objects", short, f"no {short}", f"Give the file with the definitions too: {_BOTH}")


def _makes_sequences(summary: DumpSummary) -> bool:
    return any(made.kind is Kind.SEQUENCE for made in summary.created)


def _listed(relations: tuple[Relation, ...]) -> str:
    return listed((shown(each) for each in relations), SHOWN)


# Rows that refer to what is missing ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OrphanRows:
    """``rows`` of ``table`` that refer to rows of ``references``, which the restore point does not have."""

    table: Relation
    references: Relation
    rows: int

    def __str__(self) -> str:
        refer = "refers" if self.rows == 1 else "refer"
        return f"{counted(self.rows, 'row')} of {shown(self.table)} {refer} to {shown(self.references)}"


def orphan_rows(source: DumpSource, summary: DumpSummary) -> tuple[OrphanRows, ...]:
    """The rows that reference a table that was dumped without rows. The dump is read again if a foreign key references
    such a table."""
    above = _roots(summary)
    without_rows = {root for relation in summary.tables_without_data for root in (relation, *above[relation])}
    keys: defaultdict[Relation, list[ForeignKeyDefinition]] = defaultdict(list)
    for key in summary.foreign_keys:
        if key.references in without_rows and key.table != key.references:
            keys[key.table].append(key)
    if not keys:
        return ()
    counts: dict[ForeignKeyDefinition, int] = {}
    places_of_keys: list[tuple[ForeignKeyDefinition, list[int]]] = []
    for entry in read(source, database=summary.database, accept_unmarked=True, accept_partial=True):
        if isinstance(entry, RowsStart):
            columns = list(entry.columns or ())
            candidates = [key for table in (entry.relation, *above[entry.relation]) for key in keys.get(table, ())]
            places_of_keys = [
                (key, [columns.index(name) for name in key.columns])
                for key in candidates
                if set(key.columns) <= set(columns)
            ]
        elif isinstance(entry, Rows) and places_of_keys:
            for line in entry.data.split(b"\n")[:-1]:
                values = line.split(b"\t")
                for key, places in places_of_keys:
                    if all(values[place] != b"\\N" for place in places):
                        counts[key] = counts.get(key, 0) + 1
    return tuple(OrphanRows(key.table, key.references, rows) for key, rows in counts.items())


def _roots(summary: DumpSummary) -> defaultdict[Relation, list[Relation]]:
    """The partitioned tables above each partition, the nearest first."""
    parent = {
        item.command.relations[1]: item.command.relations[0]
        for item in summary.script.items
        if isinstance(item, ScriptStep) and item.command.kind is Kind.PARTITION and len(item.command.relations) == 2
    }
    above: defaultdict[Relation, list[Relation]] = defaultdict(list)
    for relation in parent:
        root: Relation | None = parent[relation]
        while root is not None and root not in above[relation]:
            above[relation].append(root)
            root = parent.get(root)
    return above


def check_restorable(point: RestorePoint, lack: MissingPart | None, without_match: tuple[OrphanRows, ...]) -> None:
    """Raise PartialPoint if no database can be restored from the point. ``without_match``: rows that would violate
    foreign keys."""
    if lack is not None and not lack.restorable:
        raise PartialPoint(f'cannot restore "{point.path}": {lack.message}', hint=lack.hint)
    if lack is not None and without_match:
        more = f", and {len(without_match) - 1} more" if len(without_match) > 1 else ""
        raise PartialPoint(
            f'cannot restore "{point.path}": {lack.message}, and {without_match[0]}{more}',
            hint="Choose another restore point: lastgood points. Or allow it: with --allow-orphans such keys are added "
            "NOT VALID.",
        )
