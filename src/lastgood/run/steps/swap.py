"""The swap: the commit point of a rollback. Before it the live database is as it was; undo is the reverse exchange."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from lastgood import fault
from lastgood.errors import Failed, Interrupted, Stopped
from lastgood.journal.reader import SWAP
from lastgood.plan.plan import PlannedStep, Request
from lastgood.postgres import database
from lastgood.postgres import errors as server_errors
from lastgood.postgres.access.grants import Operator
from lastgood.postgres.apply import rehearse
from lastgood.postgres.database import Database
from lastgood.postgres.deployment import read_deployment
from lastgood.postgres.exchange import ExchangeResult, NameExchange, NamesChanged, Renaming, exchange
from lastgood.postgres.exchange import current_names as present_names
from lastgood.postgres.holders import holders
from lastgood.postgres.mark import BROUGHT_BACK, DEPLOYMENT, marked
from lastgood.postgres.sessions import END_HINT, blocking_sessions
from lastgood.postgres.state import DatabaseState
from lastgood.postgres.transactions import OutcomeUnknown
from lastgood.postgres.waits import bounded
from lastgood.run import pause as pool
from lastgood.run.context import Reversal, Run
from lastgood.run.pause import Pause
from lastgood.run.report import FenceReport
from lastgood.run.runner import Result
from lastgood.run.steps import fence
from lastgood.run.steps.build import mark_of
from lastgood.text.units import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Switched(Result):
    """The completed swap: the live name is that of the database ``oid`` since ``at`` (monotonic clock). ``settings``:
    the number of database settings carried over. ``fence``: the verified fence; None with ``--fence at-swap``."""

    oid: int
    exchanged: ExchangeResult
    at: float
    settings: int
    fence: FenceReport | None
    pause: Pause | None

    @property
    def entry(self) -> Mapping[str, Any]:
        return {"outage": self.exchanged.outage, "ended": self.exchanged.ended}


class Swap:
    """The exchange of names. Checks come first; the rest is one transaction of a few milliseconds."""

    name = SWAP
    title = "switch the names (readers reconnect)"
    commits = True

    def planned(self, request: Request) -> PlannedStep:
        """Describe this step in the plan: the effect on every session of the live database."""
        held = "; PgBouncer pauses its clients meanwhile" if request.pgbouncer.admin else ""
        return PlannedStep(
            name=self.name,
            title="Switch the names",
            effect=f"all sessions are terminated once; clients reconnect{held}",
        )

    def do(self, run: Run) -> Switched:
        plan = run.plan
        shadow = database.describe(run.maintenance, plan.shadow)
        state = DatabaseState.read(run.maintenance, plan.live)
        statements = self._statements(run, state)
        # Obstacles that appeared since the plan was made.
        for holder in holders(run.maintenance, plan.live):
            if holder.blocking and (holder.fatal or plan.checklist.override("holders") is None):
                raise Failed(
                    f"cannot switch: {holder.kind} {holder.what}: {holder.explanation.rstrip('.')}", hint=holder.command
                )
        obstacle = blocking_sessions(run.maintenance, plan.live_oid, plan.live)
        if obstacle and plan.checklist.override("sessions") is None:
            raise Failed(f"cannot switch: {obstacle}", hint=END_HINT)
        proof = fence.verify(run)
        fence_pid = run.fence_connection.info.backend_pid if run.fence_connection is not None else None
        fault.point("swap.before_transaction")
        with pool.paused(
            run.prepared.request.pgbouncer,
            run.target,
            run.maintenance,
            run.context,
            journal=run.journal,
            fence=fence_pid,
        ) as pause:
            exchanged = self._exchange(run, shadow, statements, state, fence_pid)
            at = time.monotonic()
        if exchanged.tries > 1 and proof is not None:
            # A failed try may have released the fence already.
            more = f"; the switch took {exchanged.tries} tries, and writes may have been made between them"
            proof = proof.model_copy(update={"writes_after": None, "proof": proof.proof + more})
        return Switched(
            oid=shadow.oid,
            exchanged=exchanged,
            at=at,
            settings=len(state.settings),
            fence=proof,
            pause=pause,
            detail=f"{exchanged.outage * 1000:.0f} ms, {counted(exchanged.ended, 'session')} ended"
            + (f"; {pause.summary}" if pause is not None and pause.summary else ""),
        )

    def _exchange(
        self, run: Run, shadow: Database, statements: list[sql.Composed], state: DatabaseState, fence_pid: int | None
    ) -> ExchangeResult:
        plan = run.plan
        run.at_swap = True
        wanted = NameExchange(
            leaving=Renaming(plan.live_oid, plan.live, plan.kept),
            arriving=Renaming(shadow.oid, plan.shadow, plan.live),
            statements=statements,
            fault_points=("swap.between_renames", "swap.before_commit", "swap.after_commit"),
            recheck=lambda: self._recheck(run, state),
            keep_until_last=fence_pid,
            release_last=lambda: fence.release(run),
        )
        try:
            return exchange(run.maintenance, run.server, wanted, helper=run.helper)
        except NamesChanged as error:
            raise Failed(
                f"cannot switch: the databases' names changed during the run ({error})",
                hint="Another session renamed or replaced a database. To show the current state: lastgood status",
            ) from error
        except OutcomeUnknown as error:
            raise Stopped(
                "cannot verify the switch: the connection was lost during the commit",
                hint=f"When the server answers again, run: lastgood resume {plan.run}",
                state="The live database is either as it was or fully switched; never in between.",
            ) from error
        except psycopg.Error as error:
            raise server_errors.failed(error, f'switch "{plan.live}" to the restored database') from error

    def _statements(self, run: Run, state: DatabaseState) -> list[sql.Composed]:
        """Return the statements of the transaction apart from the renames: the state of the live database for the
        restored one, and for the kept database a mark, which has its comment for the undo.

        They are rehearsed on the shadow and rolled back, so that errors appear before the swap.
        """
        plan, maintenance = run.plan, run.maintenance
        found = DatabaseState.read(maintenance, plan.shadow)
        operator = Operator.read(maintenance)
        with bounded(maintenance) as watch:
            refusals = rehearse(maintenance, state.statements(plan.shadow, found, operator))
        if watch.reason is not None:
            raise Failed(
                f'cannot try the settings of "{plan.live}" on "{plan.shadow}": {watch.reason}', hint=watch.reason.hint
            )
        for refused in refusals:
            raise Failed(
                f'cannot carry over a setting or privilege of "{plan.live}" itself: {refused.message}',
                hint="Run the rollback as a superuser, or as the role that made that setting.",
            )
        kept = mark_of(run, "kept", original_comment=state.comment)
        if deployment := self._deployment(run):
            # A database broken by a deployment must not be proposed as the remedy.
            kept = kept.model_copy(update={"options": {**kept.options, DEPLOYMENT: deployment}})
        return [
            *state.statements(plan.live, found, operator),
            database.comment_statement(plan.kept, kept.text()),
        ]

    def _deployment(self, run: Run) -> str:
        """The failed deployment that left the live database as it is; empty if there is none, as far as known."""
        live = run.plan.live
        found = read_deployment(database.describe(run.maintenance, live).comment)
        if found is not None:
            return found.run
        kept = [mark for _, mark in marked(run.maintenance) if mark.live == live and mark.role == "kept"]
        last = max(kept, key=lambda mark: mark.started, default=None)
        return last.options.get(BROUGHT_BACK, "") if last is not None else ""

    def _recheck(self, run: Run, state: DatabaseState) -> None:
        """Check the last time before the commit. The resulting state is compared, because the server ignores a REVOKE
        without privileges with only a warning."""
        if run.cancelled():
            raise Interrupted("interrupted before the switch was committed")
        if DatabaseState.read(run.maintenance, run.plan.live) != state:
            raise Failed(
                f'cannot carry over the privileges and settings of "{run.plan.live}" itself: the server ignored some',
                hint="Run the rollback as a superuser, or as the role that granted them.",
            )

    def undo(self, run: Run) -> None:
        """Do nothing: before the commit the server rolled back."""

    def reverse(self, back: Reversal) -> None:
        back.exchange_again()

    def holds(self, run: Run, result: Mapping[str, Any]) -> bool:
        """Whether the previous database, by OID, has the kept name."""
        return any(
            found.oid == run.plan.live_oid and found.name == run.plan.kept for found, _ in marked(run.maintenance)
        )

    def switched(self, run: Run) -> bool | None:
        """Whether the previous database has the kept name; None if the server does not answer."""
        try:
            with run.server.connect() as connection:
                found = present_names(connection, [run.plan.live_oid])
        except psycopg.Error:
            return None
        return found.get(run.plan.live_oid) == run.plan.kept
