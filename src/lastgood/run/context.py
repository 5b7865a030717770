"""What the steps of one run share: its plan, its sessions, its journal and what each step gave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
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
from lastgood.postgres.lock import lock_live, nothing, unlock
from lastgood.postgres.server import Connection, Target
from lastgood.run.runner import Result

RECONNECT_SECONDS = 30.0
T = TypeVar("T", bound=Result)


class Run:
    """What the steps of one run share. ``maintenance`` holds the lock that makes this the only run; the swap is issued
    on it, so that a run which lost its lock cannot switch. ``helper`` ends the others' sessions in the swap: opened at
    the beginning, since at the end there may be no connection left for it. ``service`` is the application that uses the
    live database; what its hooks give goes into the journal. ``stopped_before``: a run that is resumed had stopped it
    already. ``switched``: a run that is resumed had switched already. ``shadow_kept`` and ``started_again``: what was
    left and done on the way back."""

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
        self.at_swap = switched  # from here on only the server can tell what the live name means
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
        """The server, at the live database."""
        return self.prepared.request.target.at(self.plan.live)

    @property
    def application(self) -> Application:
        """The application that uses the live database."""
        return self.prepared.request.application

    @property
    def server(self) -> Target:
        """The server, at the maintenance database."""
        return self.target.at(self.plan.maintenance)

    @contextmanager
    def connected(self, dbname: str, purpose: str) -> Iterator[Connection]:
        """A connection of one step; what it executes is cancelled when the run is to stop."""
        connection = self.target.at(dbname).connect(application_name=f"lastgood {purpose} {self.plan.run}")
        try:
            with self._lock:
                self._busy.add(connection)
            yield connection
        finally:
            with self._lock:
                self._busy.discard(connection)
            connection.close()

    def keep(self, result: Result) -> None:
        """Hold the result of a step; it replaces an earlier one of the same type."""
        self._results[type(result)] = result

    def result(self, kind: type[T]) -> T | None:
        """The result of this type; None where the step was not taken, or another process took it."""
        found = self._results.get(kind)
        return found if isinstance(found, kind) else None

    def _service(self) -> Service:
        plan, info = self.plan, self.maintenance.info
        # Hooks may print it, and nobody but libpq knew it until now if it stands in ~/.pgpass.
        self.application.scrub.learn([info.password], public=[info.user, info.host])
        # Never a password: the point is a path, the rest are names.
        facts = hooks.environment(
            run=plan.run, live=plan.live, kept=plan.kept, shadow=plan.shadow, point=plan.point.path
        )
        state = self.prepared.request.state
        return Service(self.application, self.target, state, facts, self.emit, self._hook_ended)

    def _hook_ended(self, result: HookResult) -> None:
        """Journal the result of a hook. Before the swap nothing is done without a record; after it, and while walking
        back, users wait for the application, not for the record."""
        with suppress(OSError) if self._undisturbed else nullcontext():
            self.journal.write("hook", **result.model_dump(mode="json"))

    def cancelled(self) -> bool:
        """Whether the run is to stop."""
        return self._asked_to_stop or self._cancelled.is_set()

    def stop(self) -> None:
        """Stops the run: what its sessions execute is cancelled. May be called from any thread."""
        self._cancelled.set()
        with self._lock:
            busy = list(self._busy)
        for connection in busy:
            with suppress(psycopg.Error):  # it may have just ended by itself
                connection.cancel_safe(timeout=5)

    def mark_interrupted(self) -> None:
        """Notes that the user wants the run to stop; takes no lock, so a signal handler may call it."""
        self.interrupted = self._asked_to_stop = True

    def told_to_go_on(self) -> None:
        """A signal that is passed over: this run is the way back already."""
        self.emit(Caution("going back to the restore point; press Ctrl+C again to leave that unfinished"))

    def not_suspended(self) -> None:
        """Ctrl+Z: writers would wait for a process that does nothing."""
        self.emit(Caution("a rollback cannot be suspended: writers may be waiting; press Ctrl+C to walk it back"))

    def carry_on(self) -> None:
        """From here on work is undisturbed: the steps' undo, or what follows the commit point."""
        self._asked_to_stop = False
        self._undisturbed = True
        self._cancelled.clear()
        try:
            self.maintenance.execute("SELECT 1")
        except psycopg.Error:
            self._reconnect()

    def close(self) -> None:
        """Release the lock and close the run's sessions."""
        with suppress(psycopg.Error):  # what comes next must not find a lock of a session that is about to end
            unlock(self.maintenance)
        if self.helper is not None:
            self.helper.close()
        self.maintenance.close()

    def _reconnect(self) -> None:
        """For walking back only: the lock is taken again, and a swap is never issued on this connection."""
        deadline = time.monotonic() + RECONNECT_SECONDS
        while True:
            try:
                self.maintenance = self.server.connect(application_name=f"lastgood rollback {self.plan.run}")
                # Every step's undo asks the server what there is to undo.
                lock_live(self.maintenance, self.plan.live, nothing)
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    return  # what needs the server now fails, and says so
            except Refused:
                # The server has not noticed yet that our old session is gone; or somebody else came in between, and
                # then nothing of the run may be touched.
                self.maintenance.close()
                if time.monotonic() > deadline:
                    return
            time.sleep(0.2)  # the server may be restarting; nothing announces its return
