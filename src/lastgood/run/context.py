"""What a run does: one module per step, each a do/undo pair."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from lastgood.application import Application, hooks
from lastgood.application.results import HealthResult, HookResult, WatchResult
from lastgood.application.service import Service
from lastgood.dump.deferral import Division
from lastgood.dump.names import Relation
from lastgood.errors import Refused
from lastgood.events import Caution, Emit
from lastgood.facts.compare import Comparison
from lastgood.journal import Journal
from lastgood.load.deferred.work import Finished
from lastgood.load.repairs import Repaired
from lastgood.plan import Plan, Prepared
from lastgood.postgres.exchange import Exchanged
from lastgood.postgres.lock import lock_live, nothing
from lastgood.postgres.server import Connection, Target

RECONNECT_SECONDS = 30.0


@dataclass(slots=True)
class FenceProof:
    """How writers were kept out, how we know, and how many rows were written all the same (None: can't be told)."""

    kind: str
    proof: str
    writes_after: int | None
    began: float | None = None


@dataclass(slots=True)
class CarriedOver:
    """What the restore point lacks and was taken from the live database: numbers of statements and remarks."""

    settings: int = 0
    privileges: int = 0
    roles_tried: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class Pause:
    """How clients are held back: of which ``databases`` of PgBouncer, whether all their transactions had ended before
    the switch, and if not, whose had not (``cut``: the switch ends them). ``seconds``: from PAUSE to RESUME."""

    databases: tuple[str, ...]
    quiet: bool = False
    cut: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def said(self) -> str:
        """For the detail of a stage."""
        return f"clients of PgBouncer waited up to {self.seconds * 1000:.0f} ms" if self.databases else ""


@dataclass(slots=True)
class Findings:
    """What the steps found out, for the report."""

    fence: FenceProof | None = None
    carried_over: CarriedOver = field(default_factory=CarriedOver)
    comparison: Comparison | None = None
    emergency: Path | None = None
    restored_oid: int | None = None
    exchanged: Exchanged | None = None
    switched: float | None = None
    pause: Pause | None = None
    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    repaired: list[Repaired] = field(default_factory=list)
    same: dict[Relation, int] = field(default_factory=dict)
    shadow_kept: bool = False
    division: Division | None = None
    finished: Finished | None = None
    started_again: bool = False
    health: HealthResult | None = None
    before: dict[str, float | None] = field(default_factory=dict)
    before_seconds: float | None = None
    watch: WatchResult | None = None


class Run:
    """What the steps of one run share. ``maintenance`` holds the lock that makes this the only run; the swap is issued
    on it, so that a run which lost its lock cannot switch. ``helper`` ends the others' sessions in the swap: opened at
    the beginning, since at the end there may be no connection left for it. ``service`` is the application that uses the
    live database; what its hooks give goes into the journal. ``stopped_before``: a run that is resumed had stopped it
    already. ``switched``: a run that is resumed had switched already."""

    def __init__(
        self, prepared: Prepared, maintenance: Connection, journal: Journal, emit: Emit, *, switched: bool = False
    ) -> None:
        self.prepared = prepared
        self.plan: Plan = prepared.plan
        self.maintenance = maintenance
        self.journal = journal
        self.emit = emit
        self.seconds: dict[str, float] = {}
        self.findings = Findings()
        self.helper: Connection | None = None
        self.fence_connection: Connection | None = None
        self.fence_over = threading.Event()
        self.fence_used = threading.Lock()
        self.interrupted = False
        self.at_swap = switched  # from here on only the server can tell what the live name means
        plan = self.plan
        # Never a password: the point is a path, the rest are names.
        facts = hooks.environment(
            run=plan.run, live=plan.live, kept=plan.kept, shadow=plan.shadow, point=plan.point.path
        )
        self.service = Service(self.application, self.target, prepared.request.state, facts, emit, self._hook_ended)
        stopped = self.service.record
        self.stopped_before = stopped is not None and stopped.by == plan.run and stopped.state == "stopped"
        self._undisturbed = switched
        self._asked_to_stop = False
        self._cancelled = threading.Event()
        self._busy: set[Connection] = set()
        self._lock = threading.Lock()

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

    def _hook_ended(self, result: HookResult) -> None:
        """Before the switch nothing is done without a record; after it, and on the way back, users wait for the
        application, not for the record."""
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


def _facts(plan: Plan) -> dict[str, str]:
    """What hooks find in their environment. Never a password: the point is a path, the rest are names."""
    return hooks.environment(run=plan.run, live=plan.live, kept=plan.kept, shadow=plan.shadow, point=plan.point.path)
