"""The reverse exchange of an undo: the names of two databases, or the objects of schemas."""

from __future__ import annotations

import os
from typing import Any

import psycopg

from lastgood.config.tables import PgBouncer
from lastgood.context import Context
from lastgood.errors import NOT_REACHED, Failed, Refused, Stopped
from lastgood.events import Caution, Emit
from lastgood.in_place import kept
from lastgood.in_place.exchange import completion, locking, move, switch
from lastgood.in_place.exchange.move import Moved
from lastgood.journal import Journal, caller
from lastgood.plan.undo_plan import UndoPlan
from lastgood.postgres import clock, database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.deployment import own_comment
from lastgood.postgres.exchange import ExchangeResult, NameExchange, NamesChanged, Renaming, exchange
from lastgood.postgres.holders import holders
from lastgood.postgres.mark import BASE, Mark, of_undo, read_mark
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.sessions import END_HINT, blocking_sessions
from lastgood.postgres.transactions import OutcomeUnknown, outcome_after_loss, server_process
from lastgood.process import interrupts
from lastgood.run import pause as pool
from lastgood.run.pause import Pause


def refuse_obstacles(maintenance: Connection, plan: UndoPlan) -> None:
    """Raise Refused if something on the server holds the live name: a subscription, a slot, or a session."""
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


def move_objects(live: Target, plan: UndoPlan, emit: Emit) -> ExchangeResult:
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


def exchange_names(
    maintenance: Connection, target: Target, plan: UndoPlan, emit: Emit, pgbouncer: PgBouncer, journal: Journal
) -> tuple[ExchangeResult, Pause | None]:
    """Switch the names back while PgBouncer is paused. Raises Failed (nothing changed) or Stopped (unknown)."""
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
                NameExchange(
                    leaving=Renaming(plan.live_oid, plan.live, plan.kept),
                    arriving=Renaming(plan.arriving_oid, plan.arriving, plan.live),
                    statements=_statements(maintenance, plan),
                    fault_points=("swap.between_renames", "undo.before_commit", "undo.after_commit"),
                ),
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


def _statements(maintenance: Connection, plan: UndoPlan) -> list[Any]:
    """Return the statements of the swap's transaction: open the previous database with its own comment, and mark the
    replaced one."""
    live = database.describe(maintenance, plan.live)
    arriving = database.find(maintenance, plan.arriving)
    back = read_mark(arriving.comment if arriving is not None else None)
    about = of_undo(back.options) if back is not None else {}
    mark = Mark(
        role="kept",
        run=plan.run,
        live=plan.live,
        live_oid=plan.live_oid,
        point=plan.arriving,
        host=caller.host(),
        pid=os.getpid(),
        user=caller.user(),
        started=clock.now(maintenance),
        original_comment=own_comment(live.comment),
        options={"kind": "undo", "undoes": plan.undoes, BASE: plan.base, **about},
    )
    return [
        database.allow_connections_statement(plan.live, True),
        database.comment_statement(plan.live, plan.original_comment),
        database.comment_statement(plan.kept, mark.text()),
    ]
