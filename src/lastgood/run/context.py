"""The shared context of the steps of a run: its plan, sessions, journal and the results of steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TypeVar

import psycopg

from lastgood.application import Application, hooks
from lastgood.application.results import HookResult
from lastgood.application.service import Service
from lastgood.context import Context
from lastgood.errors import Refused
from lastgood.events import Caution, Emit
from lastgood.journal import Journal
from lastgood.load.rebuild import Dump
from lastgood.plan.plan import Plan, Prepared
from lastgood.postgres.lock import lock_live, read_nothing, unlock
from lastgood.postgres.server import Connection, Target
from lastgood.run.runner import Result

RECONNECT_SECONDS = 30.0
T = TypeVar("T", bound=Result)


@dataclass(slots=True)
class Reversal:
    """The shared context of the steps of a run that are reversed after the commit point, by the process of the run or
    another. ``exchange_again`` exchanges both databases, or the schemas in place. ``not_running``: why the
    application did not start afterwards; empty if its hooks succeeded."""

    run: str
    application: Application
    service: Service
    emit: Emit
    exchange_again: Callable[[], None]
    not_running: str = ""


class Run:
    """The shared context of the steps. ``maintenance`` holds the lock of the run; the swap is issued on it, so that a
    run without its lock cannot switch. ``helper`` terminates other sessions in the swap; it is opened at the beginning,
    because later no connection may be free. ``service`` is the application that uses the live database; the results of
    its hooks are journaled. ``stopped_before``: the resumed run had stopped the application already. ``switched``: the
    resumed run had switched already. ``shadow_kept`` and ``started_again``: the shadow was kept and the application
    started while the steps were undone."""

    def __init__(
        self, prepared: Prepared, maintenance: Connection, journal: Journal, emit: Emit, *, switched: bool = False
    ) -> None:
        self.prepared = prepared
        self.plan: Plan = prepared.plan
        self.maintenance = maintenance
        self.journal = journal
        self.emit = emit
        self.seconds: dict[str, float] = {}
        self.shadow_kept = False
        self.started_again = False
        self._results: dict[type[Result], Result] = {}
        self.helper: Connection | None = None
        self.fence_connection: Connection | None = None
        self.fence_over = threading.Event()
        self.fence_used = threading.Lock()
        self.interrupted = False
        self.at_swap = switched  # from here on only the server knows which database has the live name
        self._undisturbed = switched
        self.service = self._service()
        stopped = self.service.record
        self.stopped_before = stopped is not None and stopped.by == self.plan.run and stopped.state == "stopped"
        self._asked_to_stop = False
        self._cancelled = threading.Event()
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()

    @property
    def context(self) -> Context:
        """The context of the steps' work. It is cancelled when the run is to stop."""
        return self.prepared.request.context(self.emit, self.cancelled)

    @property
    def dump(self) -> Dump:
        """The dump of the restore point."""
        prepared = self.prepared
        return Dump(
            prepared.point.path.name,
            prepared.source,
            prepared.summary,
            prepared.facts,
            again=lambda: prepared.facts,
            division=prepared.division,
            held=prepared.held,
        )

    @property
    def target(self) -> Target:
        """The live database."""
        return self.prepared.request.target.at(self.plan.live)

    @property
    def application(self) -> Application:
        """The application that uses the live database."""
        return self.prepared.request.application

    @property
    def server(self) -> Target:
        """The maintenance database."""
        return self.target.at(self.plan.maintenance)

    @contextmanager
    def connected(self, dbname: str, purpose: str) -> Iterator[Connection]:
        """Provide a connection for one step; its query is cancelled when the run is to stop."""
        with self.connected_to(self.target.at(dbname), purpose) as connection:
            yield connection

    @contextmanager
    def connected_to(self, target: Target, purpose: str) -> Iterator[Connection]:
        """The same for a target of another role."""
        connection = target.connect(application_name=f"lastgood {purpose} {self.plan.run}")
        try:
            with self._lock:
                self._busy.add(connection)
            yield connection
        finally:
            with self._lock:
                self._busy.discard(connection)
            connection.close()

    def keep(self, result: Result) -> None:
        """Keep the result of a step; it replaces an earlier one of the same type."""
        self._results[type(result)] = result

    def result(self, kind: type[T]) -> T | None:
        """Return the result of this type; None if the step did not run, or ran in another process."""
        found = self._results.get(kind)
        return found if isinstance(found, kind) else None

    def _service(self) -> Service:
        plan, info = self.plan, self.maintenance.info
        # Hooks may print the password; if it comes from ~/.pgpass, only libpq has read it until now.
        self.application.scrub.learn([info.password], public=[info.user, info.host])
        # No passwords: the point is a path, the rest are names.
        facts = hooks.environment(
            run=plan.run, live=plan.live, kept=plan.kept, shadow=plan.shadow, point=plan.point.path
        )
        context = self.prepared.request.context(self.emit)
        return Service(self.application, self.target, facts, context, self._hook_ended)

    def _hook_ended(self, result: HookResult) -> None:
        """Journal the result of a hook. Before the swap a failing write stops the run; after it, and while walking
        back, it is ignored, because users wait for the application."""
        with suppress(OSError) if self._undisturbed else nullcontext():
            self.journal.write("hook", **result.model_dump(mode="json"))

    def cancelled(self) -> bool:
        """Whether the run is to stop."""
        return self._asked_to_stop or self._cancelled.is_set()

    def stop(self) -> None:
        """Stop the run and cancel the queries of its sessions. May be called from any thread."""
        self._cancelled.set()
        self._cancel_busy()

    def stop_as_asked(self) -> None:
        """React, in a thread, to a signal that ``mark_interrupted`` has noted. One that came before the commit point
        must not stop what follows, however late this thread starts."""
        with self._lock:
            if not self._asked_to_stop:
                return
            self._cancelled.set()
        self._cancel_busy()

    def _cancel_busy(self) -> None:
        with self._lock:
            busy = list(self._busy)
        for connection in busy:
            with suppress(psycopg.Error):  # the query may have just ended
                connection.cancel_safe(timeout=5)

    def mark_interrupted(self) -> None:
        """Mark the run as interrupted by the user. Takes no lock, so a signal handler may call it."""
        self.interrupted = self._asked_to_stop = True

    def ignore_interrupt(self) -> None:
        """Ignore a first signal with a caution, because this run is already the way back."""
        self.emit(Caution("rolling back to the restore point; press Ctrl+C again to stop and leave the run unfinished"))

    def refuse_suspension(self) -> None:
        """Refuse Ctrl+Z, because writers would wait for a suspended process."""
        self.emit(Caution("a rollback cannot be suspended: writers may be waiting; press Ctrl+C to stop and revert it"))

    def carry_on(self) -> None:
        """Ignore interrupts from here on: for the undo of steps, or after the commit point."""
        with self._lock:
            self._asked_to_stop = False
            self._undisturbed = True
            self._cancelled.clear()
        try:
            self.maintenance.execute("SELECT 1")
        except psycopg.Error:
            self._reconnect()

    def close(self) -> None:
        """Release the lock and close the run's sessions."""
        with suppress(psycopg.Error):  # the next run must not meet the lock of a closing session
            unlock(self.maintenance)
        if self.helper is not None:
            self.helper.close()
        self.maintenance.close()

    def _reconnect(self) -> None:
        """Reconnect to undo steps, and take the lock again. A swap is never issued on this connection."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                self.maintenance = self.server.connect(application_name=f"lastgood rollback {self.plan.run}")
                # The undo of each step reads from the server what to undo.
                lock_live(self.maintenance, self.plan.live, read_nothing)
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    return  # steps that need the server now fail with their own errors
            except Refused:
                # The server has not ended our old session yet; or another run has the lock, and then nothing of this
                # run may be touched.
                self.maintenance.close()
                if time.monotonic() > deadline:
                    return
            time.sleep(0.2)  # the server may be restarting; nothing announces its return
