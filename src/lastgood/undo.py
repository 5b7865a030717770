"""The reverse swap: the kept database gets the live name again, in one transaction.

The replaced database becomes the next kept database, with the rows written since; an undo can be undone. Only the
server is needed: the mark of the kept database names its run.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

import psycopg

from lastgood.application import Application, hooks
from lastgood.application.results import ApplicationReport, HookResult
from lastgood.application.service import Service
from lastgood.config.tables import NO_PGBOUNCER, PgBouncer
from lastgood.context import Context
from lastgood.errors import NOT_REACHED, Failed, Refused, Stopped, switched_back
from lastgood.events import Caution, Emit, Note, StageDone, StageStarted
from lastgood.in_place import completion, kept, locking, move, names, switch
from lastgood.in_place.move import Moved
from lastgood.journal import Journal, caller, recording
from lastgood.journal.run_names import new_run, suffix
from lastgood.models import Document, Frozen
from lastgood.plan.plan import Finding, PlannedPause, Way
from lastgood.postgres import clock, database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.deployment import own_comment
from lastgood.postgres.exchange import ExchangeResult, NamesChanged, Renaming, exchange
from lastgood.postgres.holders import holders
from lastgood.postgres.lock import lock_live
from lastgood.postgres.mark import BASE, Mark, server_clock
from lastgood.postgres.pgbouncer import consoles
from lastgood.postgres.pgbouncer.obstacles import findings
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.sessions import END_HINT, blocking_sessions
from lastgood.postgres.transactions import OutcomeUnknown, outcome_after_loss, server_process
from lastgood.process import interrupts
from lastgood.run import pause as pool
from lastgood.run.pause import Pause
from lastgood.run.report import PauseReport


class UndoPlan(Frozen):
    """The plan of an undo: ``live`` is kept as ``kept``, and ``arriving`` becomes ``live`` again. ``hooks``: the undone
    run stopped the application with hooks of its machine. In place, ``arriving`` and ``kept`` are the names of schemas,
    with * for the live name. ``base``: the restore point from which both databases differ."""

    run: str
    undoes: str
    live: str
    live_oid: int
    arriving: str
    arriving_oid: int
    kept: str
    original_comment: str | None
    hooks: bool = False
    base: str = ""
    way: Way = "by-name"
    pauses: tuple[PlannedPause, ...] = ()
    findings: tuple[Finding, ...] = ()


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
        found = _plan(maintenance, target.at(live), undoes)
        pools = consoles(pgbouncer, target.at(live), maintenance)
        risks = findings(pools, pgbouncer, live)
        return found.model_copy(
            update={
                "pauses": pool.planned_pauses(pgbouncer, pools),
                "findings": tuple(Finding(level=r.level, code=r.code, text=r.text, hint=r.hint) for r in risks),
            }
        )


@dataclass(frozen=True, slots=True)
class _Kept:
    """What an undo can bring back: a kept database, or the kept schemas of a run. ``hooks`` and ``base``: see
    ``UndoPlan``."""

    run: str
    name: str
    oid: int
    made_at: datetime
    way: Way = "by-name"
    original_comment: str | None = None
    hooks: bool = False
    base: str = ""
    invalid: bool = False


def _kept(maintenance: Connection, live: Target) -> Iterator[_Kept]:
    for found, mark in kept.left_by_runs(maintenance, live):
        if mark.role == "kept":
            yield _Kept(
                mark.run,
                found.name,
                found.oid,
                mark.started,
                way="in-place" if mark.options.get("way") == "in-place" else "by-name",
                original_comment=mark.original_comment,
                hooks=mark.options.get("hooks") == "yes",
                base=mark.options.get(BASE) or mark.point,
                invalid=found.invalid,
            )


def _plan(maintenance: Connection, target: Target, undoes: str | None) -> UndoPlan:
    live = target.dbname
    every = list(_kept(maintenance, target))
    wanted = [each for each in every if undoes in (None, each.run)]
    others = ", ".join(each.run for each in every if not each.invalid) or "none"
    if not wanted:
        raise Refused(
            f'cannot undo: no database or schemas of "{live}" are kept' + (f' from run "{undoes}"' if undoes else ""),
            hint=f"Runs that can be undone: {others}. To show the current state: lastgood status",
        )
    found = max(wanted, key=lambda each: each.made_at)
    if found.invalid:
        raise Refused(
            f'cannot undo run "{found.run}": its kept database "{found.name}" is invalid, because dropping it was '
            "interrupted",
            hint=f"Remove it: lastgood prune {shlex.quote(found.name)}. Runs that can be undone: {others}.",
        )
    now = database.describe(maintenance, live)
    run = new_run(server_clock(maintenance))
    by_name = found.way == "by-name"
    return UndoPlan(
        run=run,
        undoes=found.run,
        live=live,
        live_oid=now.oid,
        arriving=found.name,
        arriving_oid=found.oid,
        kept=database.fit_name(live, suffix("undone", run)) if by_name else names.undone(run, "*"),
        original_comment=found.original_comment,
        hooks=found.hooks,
        base=found.base,
        way=found.way,
    )


def _as_planned(maintenance: Connection, target: Target, plan: UndoPlan) -> None:
    """Verify under the lock that what is exchanged is still that of the plan. Raises Refused."""
    now = _plan(maintenance, target, plan.undoes)
    if (now.live_oid, now.arriving_oid, now.arriving) != (plan.live_oid, plan.arriving_oid, plan.arriving):
        raise Refused(
            f'cannot undo run "{plan.undoes}": "{plan.live}" or what is kept of it changed since the plan was made',
            hint="Run lastgood status, then lastgood undo again, which makes a new plan.",
            state=NOT_REACHED,
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
        lock_live(maintenance, plan.live, lambda held: _as_planned(held, target.at(plan.live), plan))
        if plan.way == "by-name":
            _refuse_obstacles(maintenance, plan)
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
        exchanged = _move_back(target.at(plan.live), plan, emit)
    else:
        emit(StageStarted("swap", "switch the names back (readers reconnect)"))
        exchanged, pause = _exchange_names(maintenance, target, plan, emit, pgbouncer, journal)
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


def _refuse_obstacles(maintenance: Connection, plan: UndoPlan) -> None:
    blocking = [holder for holder in holders(maintenance, plan.live) if holder.blocking]
    if blocking:
        raise Refused(
            f"cannot undo: {blocking[0].kind} {blocking[0].what}: {blocking[0].explanation.rstrip('.')}",
            hint=blocking[0].command,
            state=NOT_REACHED,
        )
    stubborn = blocking_sessions(maintenance, plan.live_oid, plan.live)
    if stubborn:
        raise Refused(f"cannot undo: {stubborn}", hint=END_HINT, state=NOT_REACHED)


def _move_back(live: Target, plan: UndoPlan, emit: Emit) -> ExchangeResult:
    """Undo an exchange in place. An interrupt before its commit stops it."""
    stop = interrupts.StopRequest()
    moved: Moved | None = None
    with interrupts.stop_on_signal(stop):
        with live.connect(application_name=f"lastgood undo {plan.run}") as connection:
            role = next(each.role for each in kept.run_schemas(connection, run=plan.undoes) if each.role != "staging")
            process = server_process(connection)
            try:
                moved = switch.undo(
                    connection,
                    plan.undoes,
                    plan.run,
                    role=role,
                    waiting=lambda attempt, sessions: emit(Caution(locking.blocked_by(attempt, sessions))),
                    cancelled=stop.is_set,
                )
            except (psycopg.Error, OSError) as error:
                if isinstance(error, psycopg.Error) and not connection.broken:
                    raise
                connection.close()
                _refuse_unless_committed(live, plan, process, error)
        for note in moved.notes if moved is not None else ():
            emit(Caution(note))
        _complete(live, plan, emit)
    return ExchangeResult(moved.outage, 0, moved.tries) if moved is not None else ExchangeResult(0.0, 0, 1)


def _refuse_unless_committed(live: Target, plan: UndoPlan, process: int, error: psycopg.Error | OSError) -> None:
    """Raise Failed when the move ended with ``error`` before its commit, and Stopped when the outcome is unknown.
    ``process``: the server process of the move."""
    try:
        committed = outcome_after_loss(live, process, lambda other: move.committed(other, plan.run, "undone"))
    except OutcomeUnknown as unknown:
        raise Stopped(
            "cannot verify the undo: the connection was lost during the commit",
            hint="When the server answers again, run: lastgood status",
            state=f'The schemas of "{plan.live}" are either as they were or fully switched back.',
        ) from unknown
    if not committed:
        raise Failed(
            f"cannot undo: stopped before the commit: {server_errors.one_line(error)}",
            hint=f"Fix the cause, then run: lastgood undo {plan.undoes}",
            state=f'The schemas of "{plan.live}" are as they were.',
        ) from error


def _complete(live: Target, plan: UndoPlan, emit: Emit) -> None:
    """Do what the move left to do. The undo is done without it, and users may wait for what follows."""
    try:
        with live.connect(application_name=f"lastgood undo {plan.run}") as connection:
            for note in completion.complete(connection, plan.run):
                emit(Caution(note))
    except (psycopg.Error, OSError) as error:
        emit(
            Caution(
                f"the undo is done, but its foreign keys are not validated: {server_errors.one_line(error)}; run: "
                f"lastgood resume {plan.run}"
            )
        )


def _exchange_names(
    maintenance: Connection, target: Target, plan: UndoPlan, emit: Emit, pgbouncer: PgBouncer, journal: Journal
) -> tuple[ExchangeResult, Pause | None]:
    server = target.at(maintenance.info.dbname)
    try:
        # The swap takes milliseconds: a Ctrl+C during it must not leave its outcome in doubt. A Ctrl+C while PgBouncer
        # waits for transactions to end stops the undo.
        wanted = interrupts.StopRequest()
        with (
            interrupts.on_signal(
                wanted.set,
                mark=wanted.mark,
                suspended=lambda: emit(Caution("an undo cannot be suspended: the application waits for it")),
            ),
            pool.paused(
                pgbouncer,
                target.at(plan.live),
                maintenance,
                Context(emit, wanted.is_set),
                journal=journal,
            ) as pause,
        ):
            exchanged = exchange(
                maintenance,
                server,
                leaving=Renaming(plan.live_oid, plan.live, plan.kept),
                arriving=Renaming(plan.arriving_oid, plan.arriving, plan.live),
                statements=_statements(maintenance, plan),
                fault_points=("swap.between_renames", "undo.before_commit", "undo.after_commit"),
            )
    except NamesChanged as error:
        raise Failed(
            "cannot undo: the databases' names changed since the plan was made",
            hint="Run lastgood status, then lastgood undo again.",
            state=NOT_REACHED,
        ) from error
    except OutcomeUnknown as error:
        raise Stopped(
            "cannot verify the undo: the connection was lost during the commit",
            hint="When the server answers again, run: lastgood status",
            state=f'"{plan.live}" is either as it was or fully switched back; never in between.',
        ) from error
    except psycopg.Error as error:
        failed = server_errors.failed(error, f'switch "{plan.live}" back')
        failed.state = NOT_REACHED
        raise failed from error
    return exchanged, pause


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


def _statements(maintenance: Connection, plan: UndoPlan) -> list[Any]:
    """Return the statements of the swap's transaction: open the previous database with its own comment, and mark the
    replaced one."""
    live = database.describe(maintenance, plan.live)
    mark = Mark(
        role="kept",
        run=plan.run,
        live=plan.live,
        live_oid=plan.live_oid,
        point=plan.arriving,
        host=caller.host(),
        pid=os.getpid(),
        user=caller.user(),
        started=server_clock(maintenance),
        original_comment=own_comment(live.comment),
        options={"kind": "undo", "undoes": plan.undoes, BASE: plan.base},
    )
    return [
        database.allow_connections_statement(plan.live, True),
        database.comment_statement(plan.live, plan.original_comment),
        database.comment_statement(plan.kept, mark.text()),
    ]
