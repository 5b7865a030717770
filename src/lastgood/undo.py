"""The reverse swap: the kept database gets the live name again, in one transaction.

The replaced database becomes the next kept database, with the rows written since; an undo can be undone. Only the
server is needed: the mark of the kept database names its run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from lastgood.application import Application, hooks
from lastgood.application.results import ApplicationReport, HookResult
from lastgood.application.service import Service
from lastgood.config.tables import NO_PGBOUNCER, PgBouncer
from lastgood.context import Context
from lastgood.errors import switched_back
from lastgood.events import Caution, Note, StageDone, StageStarted
from lastgood.journal import Journal, recording
from lastgood.models import Document
from lastgood.plan import undo_plan
from lastgood.plan.plan import Finding, Way
from lastgood.plan.undo_plan import UndoPlan
from lastgood.postgres import clock, database
from lastgood.postgres.lock import lock_live
from lastgood.postgres.pgbouncer import consoles
from lastgood.postgres.pgbouncer.obstacles import findings
from lastgood.postgres.server import Connection, Target
from lastgood.run import pause as pool
from lastgood.run import switch_back
from lastgood.run.pause import Pause
from lastgood.run.report import PauseReport


class UndoReport(Document):
    """The report of a completed undo. Seconds are those of the work; ``read_outage`` is that of the swap.
    ``application``: the start of the application, null if the undone run had not left it stopped."""

    run: str
    status: Literal["done"] = "done"
    undoes: str
    live: str
    kept: str
    seconds: dict[str, float]
    pause: PauseReport | None = None
    undo_command: str
    application: ApplicationReport | None = None
    way: Way = "by-name"


def plan(target: Target, live: str, undoes: str | None = None, pgbouncer: PgBouncer = NO_PGBOUNCER) -> UndoPlan:
    """Plan an undo. Raises Refused if there is no kept database, or none of run ``undoes``."""
    with database.connect_maintenance(target, live) as maintenance:
        found = undo_plan.make(maintenance, target.at(live), undoes)
        pools = consoles(pgbouncer, target.at(live), maintenance)
        risks = findings(pools, pgbouncer, live)
        return found.model_copy(
            update={
                "pauses": pool.planned_pauses(pgbouncer, pools),
                "findings": tuple(Finding(level=r.level, code=r.code, text=r.text, hint=r.hint) for r in risks),
            }
        )


def undo(
    target: Target,
    plan: UndoPlan,
    context: Context,
    pgbouncer: PgBouncer = NO_PGBOUNCER,
    application: Application | None = None,
) -> UndoReport:
    """Undo the swap while PgBouncer is paused. If the undone run was killed before it restarted the ``application``,
    start it.

    Raises Failed (nothing changed), Interrupted (before the swap), Refused (another run, sessions that cannot be
    terminated), Stopped; and NotStarted, if the databases are switched back but the application did not start.
    """
    started = time.monotonic()
    with database.connect_maintenance(target, plan.live) as maintenance:
        maintenance.execute("SELECT set_config('application_name', %s, false)", [f"lastgood undo {plan.run}"])
        lock_live(maintenance, plan.live, lambda held: undo_plan.verify_unchanged(held, target.at(plan.live), plan))
        if plan.way == "by-name":
            switch_back.refuse_obstacles(maintenance, plan)
        journal = recording.begin(
            context.records,
            plan.run,
            "undo",
            skew=clock.skew(maintenance),
            live=plan.live,
            plan=plan.model_dump(mode="json"),
        )
        with recording.recording(journal, context.emit) as emit:
            recorded = replace(context, emit=emit)
            return _switch_back(maintenance, target, plan, recorded, pgbouncer, application, journal, started)


def _switch_back(
    maintenance: Connection,
    target: Target,
    plan: UndoPlan,
    context: Context,
    pgbouncer: PgBouncer,
    application: Application | None,
    journal: Journal,
    started: float,
) -> UndoReport:
    emit = context.emit
    try:
        journal.doing("swap")
    except OSError as error:
        raise recording.unwritable_journal(journal, error) from error
    pause: Pause | None = None
    if plan.way == "in-place":
        emit(StageStarted("swap", "exchange the objects of the schemas again (sessions continue)"))
        exchanged = switch_back.move_objects(target.at(plan.live), plan, emit)
    else:
        emit(StageStarted("swap", "switch the names back (readers reconnect)"))
        exchanged, pause = switch_back.exchange_names(maintenance, target, plan, emit, pgbouncer, journal)
    work = time.monotonic() - started
    waited = f"; {pause.summary}" if pause is not None and pause.summary else ""
    emit(StageDone("swap", exchanged.outage, f"{exchanged.outage * 1000:.0f} ms{waited}"))
    journal_error = _try_to_write(lambda: journal.done("swap", outage=exchanged.outage))
    started_application = (
        _start_application(target.at(plan.live), plan, application, journal, context)
        if application is not None
        else None
    )
    report = UndoReport(
        run=plan.run,
        undoes=plan.undoes,
        live=plan.live,
        kept=plan.kept,
        seconds={"total": round(work, 3), "read_outage": round(exchanged.outage, 3)},
        pause=pause.report if pause is not None else None,
        undo_command=f"lastgood undo {plan.run}",
        application=started_application,
        way=plan.way,
    )
    journal_error = (
        _try_to_write(lambda: journal.write("ended", status="done", report=report.document())) or journal_error
    )
    if journal_error:
        # The undo is complete even without the journal entry: the kept database's mark records it.
        emit(Caution(f'the undo is done, but "{journal.path}" could not be written: {journal_error}'))
    return report


def _try_to_write(write: Callable[[], None]) -> str:
    """Write an entry, and return the error text; empty on success."""
    try:
        write()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _start_application(
    target: Target, plan: UndoPlan, application: Application, journal: Journal, context: Context
) -> ApplicationReport | None:
    def record(result: HookResult) -> None:
        _try_to_write(lambda: journal.write("hook", **result.model_dump(mode="json")))

    emit = context.emit
    facts = hooks.environment(run=plan.run, live=plan.live, kept=plan.kept)
    service = Service(application, target, facts, context, record)
    stopped = service.record
    if stopped is None or stopped.by != plan.undoes:
        if plan.hooks and Journal.find(context.records, plan.undoes) is None:
            emit(
                Caution(
                    "unknown whether the application runs: the run stopped it from another machine; if it "
                    "does not run: lastgood maintenance off"
                )
            )
        elif application.starts:
            emit(Note("no hooks were run; restart the application if it caches type OIDs"))
        return None
    if stopped.state == "stopped":
        emit(StageStarted("start", "start the application, which the run had stopped"))
        was = switched_back(plan.live, plan.undoes, in_place=plan.way == "in-place")
        service.start_again("after the undo", "start the application", f"{was} The application is stopped.")
        emit(StageDone("start", sum(each.seconds for each in service.results)))
    service.forget()
    return ApplicationReport(hooks=tuple(service.results))
