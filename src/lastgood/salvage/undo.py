"""The undo of a salvage: the same merge backwards, as long as its rows are as it left them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lastgood.context import BACKGROUND, Context
from lastgood.errors import NOT_REACHED, Refused
from lastgood.events import reported
from lastgood.journal import recording
from lastgood.journal.run_names import new_run
from lastgood.models import Document
from lastgood.postgres import clock, database
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.postgres.server import Target
from lastgood.salvage import images, tables
from lastgood.salvage.apply import Destination, apply, preview, refuse_touched
from lastgood.salvage.images import Image, Images
from lastgood.salvage.plan import SalvageReport
from lastgood.salvage.policy import STRICT
from lastgood.salvage.staged import Changed, Portion
from lastgood.salvage.transaction import TableSummary, Wanted, opened


class UndoPlan(Document):
    """The plan to undo the salvage ``undoes``: what is deleted, changed back and inserted again."""

    live: str
    undoes: str
    tables: tuple[TableSummary, ...]

    def rows(self, action: str) -> int:
        """All rows that are inserted, updated or deleted."""
        return sum(each.rows(action) for each in self.tables)


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and the rows that it needs."""

    target: Target
    state: Path
    plan: UndoPlan
    changed: tuple[Changed, ...]
    tables: dict[tables.Name, tables.Table]


def plan(target: Target, state: Path, run: str | None) -> Planned:
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
    return Planned(target, state, UndoPlan(live=live, undoes=run, tables=summaries), changed, known)


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


def undo(ready: Planned, context: Context = BACKGROUND) -> SalvageReport:
    """Undo a salvage. It is a salvage itself, and can be undone. Raises as ``salvage`` does."""
    began = time.monotonic()
    plan, live = ready.plan, ready.plan.live
    with database.connect_maintenance(ready.target, live) as maintenance:
        run = new_run(clock.now(maintenance))
        maintenance.execute("SELECT set_config('application_name', %s, false)", [f"lastgood salvage {run}"])
        lock_live(maintenance, live, read_nothing)
        oid = database.describe(maintenance, live).oid
        journal = recording.begin(
            ready.state,
            run,
            "salvage",
            skew=clock.skew(maintenance),
            live=live,
            action="undo",
            plan={**plan.model_dump(mode="json")},
        )
        with recording.recording(journal, context.emit) as emit:
            try:
                journal.doing("salvage")
            except OSError as error:
                raise recording.unwritable_journal(journal, error) from error
            with reported(emit, "salvage", f"undo the salvage {plan.undoes} in one transaction") as stage:
                context.check("interrupted before rows were written", state=NOT_REACHED)
                destination = Destination(ready.target.at(live), oid, ready.state, run)
                apply(destination, ready.changed, ready.tables, Wanted(STRICT), plan.tables, complete=True)
                stage.detail = "verified: no other row changed"
            report = SalvageReport(
                run=run,
                status="undone",
                live=live,
                undoes=plan.undoes,
                inserted=plan.rows("insert"),
                updated=plan.rows("update"),
                deleted=plan.rows("delete"),
                tables=plan.tables,
                seconds={"total": round(time.monotonic() - began, 3)},
                undo_command=f"lastgood salvage undo {run}",
            )
            recording.write_end(journal, "done", report=report.document())
    return report
