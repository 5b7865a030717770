"""A run that writes salvaged rows: its lock, its journal and its report. A salvage and its undo are such runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lastgood.context import Context
from lastgood.errors import NOT_REACHED
from lastgood.events import reported
from lastgood.journal import recording
from lastgood.journal.run_names import new_run
from lastgood.models import Document
from lastgood.postgres import clock, database
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.postgres.server import Target
from lastgood.salvage.apply import Destination
from lastgood.salvage.plan import SalvageReport


def recorded(
    live: Target,
    state: Path,
    plan: Document,
    title: str,
    write: Callable[[Destination], SalvageReport],
    context: Context,
    **begun: str,
) -> SalvageReport:
    """Let ``write`` write the rows of ``plan``, and return its report with the duration in seconds. ``begun``: what
    else the first entry of the journal says. Raises what ``write`` does; Refused while another run holds the lock of
    the live database; Failed, Interrupted: then nothing was changed."""
    began = time.monotonic()
    with database.connect_maintenance(live, live.dbname) as maintenance:
        run = new_run(clock.now(maintenance))
        maintenance.execute("SELECT set_config('application_name', %s, false)", [f"lastgood salvage {run}"])
        lock_live(maintenance, live.dbname, read_nothing)
        oid = database.describe(maintenance, live.dbname).oid
        journal = recording.begin(
            state,
            run,
            "salvage",
            skew=clock.skew(maintenance),
            live=live.dbname,
            **begun,
            plan=plan.model_dump(mode="json"),
        )
        with recording.recording(journal, context.emit) as emit:
            try:
                journal.doing("salvage")
            except OSError as error:
                raise recording.unwritable_journal(journal, error) from error
            with reported(emit, "salvage", title) as stage:
                context.check("interrupted before rows were written", state=NOT_REACHED)
                report = write(Destination(live, oid, state, run))
                stage.detail = "verified: no other row changed"
            report = report.model_copy(update={"seconds": {"total": round(time.monotonic() - began, 3)}})
            recording.write_end(journal, "done", report=report.document())
    return report
