"""The writing half of a salvage: merged again under locks, compared with what was shown, written, proved, committed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg

from lastgood import fault
from lastgood.errors import Refused
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.transactions import server_process
from lastgood.salvage import prove, quiet
from lastgood.salvage.images import Recorder
from lastgood.salvage.staged import Changed, Staged
from lastgood.salvage.tables import Name, Table
from lastgood.salvage.transaction import (
    TableSummary,
    Wanted,
    committed,
    failed,
    merged,
    opened,
    refuse_failing,
    summary,
)
from lastgood.salvage.write import Writer
from lastgood.text.units import counted

__all__ = ["Destination", "Look", "apply", "preview", "refuse_touched"]

Look = Callable[[Connection, Sequence[Staged]], None]


@dataclass(frozen=True, slots=True)
class Destination:
    """The live database, and where the images of its rows are written before the commit. ``run`` writes them.
    ``source``: see ``images.Images``."""

    target: Target
    oid: int
    state: Path
    run: str
    source: str = ""


def preview(
    connection: Connection,
    changed: Sequence[Changed],
    tables: Mapping[Name, Table],
    wanted: Wanted,
    refused: dict[Name, str] | None = None,
    look: Look | None = None,
) -> tuple[TableSummary, ...]:
    """What ``apply`` would do now. Only temporary tables are written. ``refused``: see ``merged``; ``look`` may read
    what was decided."""
    quiet.refuse_hidden(connection, [each.table for each in changed])
    staged = merged(connection, changed, tables, wanted, draw=False, refused=refused)
    if look is not None:
        look(connection, staged)
    return tuple(summary(connection, each) for each in staged)


def apply(
    destination: Destination,
    changed: Sequence[Changed],
    tables: Mapping[Name, Table],
    wanted: Wanted,
    shown: Sequence[TableSummary],
    *,
    complete: bool = False,
) -> tuple[TableSummary, ...]:
    """Write the chosen rows in one transaction. ``shown`` is the preview that was confirmed; ``complete``: every staged
    row must be written.

    Raises Refused when the outcome would differ from ``shown``; Failed, Stopped. A raised error other than
    Stopped means that nothing was changed.
    """
    name = f"lastgood salvage {destination.run}"
    with opened(destination.target, name, preview=False) as connection:
        try:
            return _applied(connection, destination, changed, tables, wanted, shown, complete)
        except psycopg.Error as error:
            raise failed(error) from error


def _applied(
    connection: Connection,
    destination: Destination,
    changed: Sequence[Changed],
    tables: Mapping[Name, Table],
    wanted: Wanted,
    shown: Sequence[TableSummary],
    complete: bool,
) -> tuple[TableSummary, ...]:
    quiet.lock(connection, [each.table for each in changed], tables)
    staged = merged(connection, changed, tables, wanted, draw=True)
    found = tuple(summary(connection, each) for each in staged)
    refuse_failing(found, wanted.policies)
    if complete:
        refuse_touched(found)
    if found != tuple(shown):
        raise Refused(
            "cannot salvage rows: the live database changed since the plan was shown",
            hint="Run the same command again: it shows a new plan.",
        )
    recorder = Recorder(connection, destination.state, destination.run, staged)
    recorder.record("before")
    fault.point("salvage.before_write")
    before = prove.begin(connection)
    with quiet.silenced(connection, [each.table for each in staged]) as unchecked:
        writer = Writer(connection, staged, unchecked=unchecked)
        writer.write()
    prove.prove(connection, staged, tables, writer.tallies, before, unchecked=unchecked)
    recorder.record("after")
    row = connection.execute("SELECT pg_catalog.pg_current_xact_id()::text").fetchone()
    assert row is not None  # a SELECT without FROM always gives a row
    transaction, process = int(row[0]), server_process(connection)
    renumbered = {(each.schema_name, each.name) for each in found if each.renumbered}
    recorder.close(destination.target.dbname, destination.oid, destination.source, transaction, renumbered)
    fault.point("salvage.before_commit")
    committed(connection, destination.target, transaction, process)
    fault.point("salvage.after_commit")
    return found


def refuse_touched(found: Sequence[TableSummary]) -> None:
    """Raise Refused unless every row can be written."""
    touched = [text for each in found if (text := _touched(each))]
    if touched:
        raise Refused(
            "cannot undo the salvage: rows were changed since, or are referenced by other rows: " + ", ".join(touched),
            hint="Correct these rows with SQL.",
        )


def _touched(table: TableSummary) -> str:
    """The rows of a table that cannot be written, with the first of their keys."""
    rows = sum(one.rows for one in table.sums if one.action is None)
    if not rows:
        return ""
    keys = [key for found in table.samples.values() for key in found]
    shown = f"{', '.join(table.key)}: {'; '.join(keys)}" if keys else "already as before the salvage"
    if not table.key:
        shown = "it has no key: another number of identical rows than after the salvage"
    return f"{counted(rows, 'row')} of {table.schema_name}.{table.name} ({shown})"
