"""The undo of a salvage: the same merge backwards, as long as its rows are as it left them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lastgood.context import BACKGROUND, Context
from lastgood.errors import Refused
from lastgood.models import Document
from lastgood.postgres import database
from lastgood.postgres.server import Target
from lastgood.salvage import images, tables
from lastgood.salvage.apply import Destination, apply, preview, refuse_touched
from lastgood.salvage.images import Image, Images
from lastgood.salvage.plan import SalvageReport
from lastgood.salvage.policy import STRICT
from lastgood.salvage.run import recorded
from lastgood.salvage.staged import Changed, Portion
from lastgood.salvage.transaction import TableSummary, Wanted, opened


class SalvageUndoPlan(Document):
    """The plan to undo the salvage ``undoes``: what is deleted, changed back and inserted again."""

    live: str
    undoes: str
    tables: tuple[TableSummary, ...]


@dataclass(frozen=True, slots=True)
class ReadyUndo:
    """A plan, and the rows that it needs."""

    target: Target
    state: Path
    plan: SalvageUndoPlan
    changed: tuple[Changed, ...]
    tables: dict[tables.Name, tables.Table]


def plan(target: Target, state: Path, run: str | None) -> ReadyUndo:
    """Plan to undo ``run``, or the newest salvage of this machine. Raises Refused if there is none, or when its rows
    were changed since."""
    live = target.dbname
    run = run or images.newest(state, live)
    if run is None:
        raise Refused(
            f'cannot undo: no salvage into "{live}" is recorded on this machine',
            hint="To list runs: lastgood runs --kind salvage",
        )
    found = images.read(state, run)
    with database.connect_maintenance(target, live) as maintenance:
        oid = database.describe(maintenance, live).oid
    if (found.live, found.live_oid) != (live, oid):
        raise Refused(
            f'cannot undo the salvage "{run}": "{live}" is not the database that it wrote to',
            hint="To show the state of the live database: lastgood status",
        )
    with target.connect(application_name="lastgood salvage undo") as connection:
        known = tables.read(connection)
    changed = tuple(backwards(state, found, each, known, number) for number, each in enumerate(found.tables, 1))
    with opened(target, "lastgood salvage undo", preview=True) as connection:
        summaries = preview(connection, changed, known, Wanted(STRICT))
    refuse_touched(summaries)
    return ReadyUndo(target, state, SalvageUndoPlan(live=live, undoes=run, tables=summaries), changed, known)


def backwards(state: Path, found: Images, image: Image, known: dict[tables.Name, tables.Table], number: int) -> Changed:
    """The rows of one table as the salvage ``found`` left them, and as they were before it. ``number``: of its
    temporary tables. Raises Refused when the table has other columns now."""
    table = known.get((image.schema_name, image.name))
    if table is None or not set(image.columns) <= set(table.stored):
        raise Refused(
            f'cannot undo the salvage "{found.run}": the columns of table "{image.schema_name}.{image.name}" changed',
            hint="Correct these rows with SQL.",
        )

    def rows(when: images.When) -> Iterable[bytes]:
        return images.rows(state, found.run, image, when)

    # What the salvage left is the common origin; what was before it is wanted again.
    return Changed(
        table, (Portion(image.columns, base=partial(rows, "after"), theirs=partial(rows, "before")),), number
    )


def undo(ready: ReadyUndo, context: Context = BACKGROUND) -> SalvageReport:
    """Undo a salvage. It is a salvage itself, and can be undone. Raises as ``salvage`` does."""
    plan = ready.plan

    def write(destination: Destination) -> SalvageReport:
        apply(destination, ready.changed, ready.tables, Wanted(STRICT), plan.tables, complete=True)
        return SalvageReport.of(
            plan.tables,
            run=destination.run,
            status="undone",
            live=plan.live,
            undoes=plan.undoes,
            undo_command=f"lastgood salvage undo {destination.run}",
        )

    title = f"undo the salvage {plan.undoes} in one transaction"
    return recorded(ready.target.at(plan.live), ready.state, plan, title, write, context, action="undo")
