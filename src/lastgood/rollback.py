"""THE STORY: how a database is put back to its last good state.

    choose ─ plan ─ check ─┬─ fence ──────────────┬─ swap ─ reopen ─ (finish)
                           ├─ emergency backup ───┤
                           └─ build ─ carry over ─ prove ┘

With ``--reopen-when usable`` some indexes and the last look at foreign keys wait for ``finish``.

``plan`` looks and promises; it changes nothing. ``run`` does what the plan says, or walks back. ``resume`` goes on with
a run that stopped, on any machine; ``abort`` walks it back.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from lastgood import interrupts, prepare
from lastgood.child import ChildFailed
from lastgood.errors import Failed, Interrupted, LastgoodError, Refused, Stopped
from lastgood.events import Caution, Emit, Note, silent
from lastgood.journal import Journal
from lastgood.plan import Prepared, Request
from lastgood.postgres import database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.exchange import helper_session, names
from lastgood.postgres.leftover import drop_leftover
from lastgood.postgres.lock import lock_live
from lastgood.postgres.mark import marked
from lastgood.report import FinishReport, Report, finish_report, report_of
from lastgood.runner import AfterCommit, Step, WalkBackFailed, drive
from lastgood.steps import Run, finish, pool
from lastgood.steps.build import Build
from lastgood.steps.carry_over import CarryOver
from lastgood.steps.emergency import Emergency
from lastgood.steps.fence import Fence
from lastgood.steps.fence import release as release_fence
from lastgood.steps.finish import Finish
from lastgood.steps.prove import Prove
from lastgood.steps.reopen import Reopen
from lastgood.steps.swap import Swap

Stages = Sequence[Sequence[Sequence[Step[Run]]]]

# The stages one after the other; in each, lanes that run at the same time.
STAGES: Stages = (
    [[Fence()]],
    [[Emergency()], [Build(), CarryOver(), Prove()]],
    [[Swap()]],
    [[Reopen()]],
)
# With --reopen-when usable, one more.
FINISH: Stages = ([[Finish()]],)


def plan(request: Request, emit: Emit = silent) -> Prepared:
    """What a rollback would do and what would be lost; changes nothing. Raises BadPoint, Refused."""
    return prepare.prepare(request, emit)


def run(prepared: Prepared, emit: Emit = silent) -> Report:
    """Does what the plan says. Returns when the live name means the proved database.

    Raises Refused when the plan has refusals or another run is at work, Failed and Interrupted when it walked back
    (the live database is as it was), Stopped when it could not.
    """
    if prepared.plan.refusals:
        first = prepared.plan.refusals[0]
        hint = first.hint
        if first.item and not first.final:
            before = f"{hint.rstrip('.')}. Or go" if hint else "Go"
            hint = f"{before} on in spite of it: --override {first.item} --reason TEXT"
        raise Refused(f'cannot roll back "{prepared.plan.live}": {first.text}', hint=hint)
    journal = Journal.create(prepared.request.state, prepared.plan.run)
    journal.write("begun", kind="rollback", plan=prepared.plan.model_dump(mode="json"))
    return _drive(prepared, journal, emit)


def resume(request: Request, emit: Emit = silent) -> Report | FinishReport:
    """Goes on with the run ``request.run``, or with the only unfinished one of the live database.

    What already holds on the server is not done again; everything is proved again before the swap. Works without
    the journal: the shadow's mark tells the restore point. After the swap not even that is needed.
    """
    started = time.monotonic()
    _let_pools_go(request, emit)
    left = finish.left(request)
    if left is not None:
        done = finish.resume(request, left, emit)
        return finish_report(left, request.target.dbname, done, time.monotonic() - started)
    prepared, switched = prepare.prepare_again(request, emit)
    journal = Journal.find(request.state, prepared.plan.run)
    if journal is None:
        emit(Note("this machine has no journal of the run; going on from what the server tells"))
        journal = Journal.create(request.state, prepared.plan.run)
    journal.write("resumed", kind="rollback", plan=prepared.plan.model_dump(mode="json"))
    return _drive(prepared, journal, emit, switched=switched)


def _let_pools_go(request: Request, emit: Emit) -> None:
    """Clients that PgBouncer still holds back for a run that stopped go on before anything else is done."""
    if request.pgbouncer.admin:
        with database.connect_maintenance(request.target, request.target.dbname) as maintenance:
            lock_live(maintenance, request.target.dbname)
            pool.let_go(request.pgbouncer, request.target.at(request.target.dbname), maintenance, emit)


def _drive(prepared: Prepared, journal: Journal, emit: Emit, *, switched: bool = False) -> Report:
    plan, started = prepared.plan, time.monotonic()
    server = prepared.request.target.at(plan.maintenance)
    with server.connect(application_name=prepare.lock_name(plan.run)) as maintenance:
        lock_live(maintenance, plan.live)
        run = Run(prepared, maintenance, journal, emit)
        run.at_swap = switched
        stages = STAGES[-1:] if switched else STAGES
        if plan.reopen_when == "usable":
            stages = (*stages, *FINISH)
        try:
            run.helper = helper_session(server)
            with interrupts.calling(run.stop, mark=run.mark_interrupted):
                drive(run, stages)
        except BaseException as error:
            raise _told(run, error) from error
        finally:
            release_fence(run)
            if run.helper is not None:
                run.helper.close()
            run.maintenance.close()
        report = report_of(run, time.monotonic() - started)
        try:
            journal.write("ended", status=report.status, report=report.document())
        except OSError as error:
            emit(Caution(f'the rollback is done, but "{journal.path}" could not be written: {error.strerror}'))
        return report


def _told(run: Run, error: BaseException) -> BaseException:
    """The error as the user is to see it: with the state that the live database is really in."""
    live, name = run.plan.live, run.plan.run
    switched = _switched(run)
    if switched is None and not isinstance(error, Stopped):
        return Stopped(
            f"cannot tell whether the switch took place: the server does not answer ({_words(error)})",
            hint=f"When it answers again, look at lastgood status, then run: lastgood resume {name}",
            state=f'"{live}" is either as it was or fully switched; never in between.',
        )
    if switched and not isinstance(error, Stopped):
        return Stopped(
            f"cannot finish the run after the switch: {_words(error)}",
            hint=f"Run: lastgood resume {name} to finish, or lastgood undo to go back.",
            state=f'"{live}" is the restored database; the previous one is kept as "{run.plan.kept}".',
        )
    untouched = f'"{live}" was not touched and is open.'
    if isinstance(error, WalkBackFailed | AfterCommit | KeyboardInterrupt):
        why = f"{error.__cause__}" if error.__cause__ else "interrupted twice"
        return Stopped(
            f"cannot walk the run back: {why}",
            hint=f'Run: lastgood abort {name} to remove "{run.plan.shadow}", or lastgood resume {name} to go on.',
            state=f'"{live}" was not touched.',
        )
    if run.findings.shadow_kept:
        untouched += f' The restored database is kept for inspection as "{run.plan.shadow}".'
    if run.interrupted and not isinstance(error, Stopped):
        return Interrupted("interrupted: everything was walked back", state=untouched)
    if isinstance(error, LastgoodError):
        if not isinstance(error, Stopped):
            error.state = untouched
        return error
    if isinstance(error, psycopg.OperationalError):
        return Failed(
            f"cannot go on: a connection to the server was lost or refused: {str(error).strip()}",
            hint="When the server lets us in again, look at lastgood status and run the rollback again.",
            state=untouched,
        )
    if isinstance(error, psycopg.Error):
        failed = server_errors.failed(error, f'roll back "{live}"')
        failed.state = untouched
        return failed
    if isinstance(error, ChildFailed):
        hint = f"{error.tail.strip()[-500:]}\nRun: lastgood explain {name} to see what that means."
        return Failed(f"cannot go on: {error}", hint=hint.strip(), state=untouched)
    if isinstance(error, OSError):
        return Failed(
            f"cannot go on: {error.strerror or error}" + (f' ("{error.filename}")' if error.filename else ""),
            hint="Make room or mend the folder, and run the rollback again.",
            state=untouched,
        )
    return error


def _words(error: BaseException) -> str:
    return "interrupted" if isinstance(error, KeyboardInterrupt) else str(error).strip()


def _switched(run: Run) -> bool | None:
    """Whether the database that was live has the kept name now; None when it may, and the server can't be asked.

    Asked of the server, by OID, whatever the run believes: an interrupt or a lost connection may come at any moment.
    """
    if not run.at_swap:
        return False
    try:
        with run.server.connect() as connection:
            found = names(connection, [run.plan.live_oid])
    except psycopg.Error:
        return None
    return found.get(run.plan.live_oid) == run.plan.kept


def abort(request: Request, emit: Emit = silent) -> dict[str, Any]:
    """Walks back a run that stopped before its swap: removes its shadow, by its mark on the server; or one that was
    never marked, if it is empty.

    Raises Refused when the run is still at work, or has switched already (that is what undo is for).
    """
    _let_pools_go(request, emit)
    with database.connect_maintenance(request.target, request.target.dbname) as maintenance:
        live = request.target.dbname
        left = prepare.leftover_of(maintenance, request)
        name = prepare.run_of(left, request.state) if left else prepare.unfinished_run(maintenance, request)
        lock_live(maintenance, live)
        removed = []
        if left is not None:
            drop_leftover(maintenance, request.target, left, live)
            removed.append(left.name)
        for found, mark in marked(maintenance):
            if mark.run == name and mark.role == "kept" and mark.live == live:
                raise Refused(
                    f'cannot abort run "{name}": it has switched already',
                    hint="Run: lastgood undo",
                    state=f'"{live}" is the restored database; the previous one is kept as "{found.name}".',
                )
        for found, mark in marked(maintenance):
            if mark.run == name and mark.role == "shadow" and mark.live == live:
                database.drop(maintenance, found.name, found.oid)
                removed.append(found.name)
        journal = Journal.find(request.state, name)
        if journal is not None:
            journal.write("ended", status="aborted", removed=removed)
    return {"format": 1, "run": name, "status": "aborted", "live": live, "removed": removed}
