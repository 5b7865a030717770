"""One deployment: its request, the state that its parts share, and its results so far."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from lastgood.application import hooks
from lastgood.application.results import ApplicationReport, HealthResult, HookResult
from lastgood.application.service import Service
from lastgood.command.deploy.hold import Hold
from lastgood.command.deploy.keys import Declared
from lastgood.command.deploy.report import DeployReport, Result
from lastgood.command.validate.validate import ValidationVerdict
from lastgood.config.tables import Deploy, Validate
from lastgood.context import Context
from lastgood.errors import Interrupted, LastgoodError
from lastgood.events import Caution
from lastgood.journal import Journal, recording
from lastgood.loss import Comparing
from lastgood.plan.plan import Request
from lastgood.points import RestorePoint
from lastgood.points.manifest import DeploymentNote, Form, Outcome, record_deployment
from lastgood.postgres.remaining_sessions import ProgramTrace, RemainingSession
from lastgood.postgres.state import DatabaseState

# The statuses in the journal.
_JOURNALED: dict[Result, str] = {
    "deployed": "done",
    "unchanged": "failed",
    "rolled back": "undone",
    "not rolled back": "stopped",
}


class Course:
    """A deployment that holds the live database."""

    def __init__(
        self,
        request: DeployRequest,
        hold: Hold,
        journal: Journal,
        context: Context,
        ended: Callable[[DeployReport], None],
    ) -> None:
        self.request = request
        self.hold = hold
        self.journal = journal
        self.context = context
        self.emit = context.emit
        self._ended = ended
        self.stopped = False  # whether this deployment stopped the application and has not started it again
        self.before: ValidationVerdict | None = None
        self.healthy_before: bool | None = None
        self.state: DatabaseState | None = None
        self.server: dict[tuple[str, str], str] = {}
        self.rights: frozenset[str] = frozenset()
        self.keys = Declared()
        self.point: RestorePoint | None = None
        self.trace: ProgramTrace | None = None
        self.seen: frozenset[RemainingSession] = frozenset()
        self.health: HealthResult | None = None
        self.found: dict[str, Any] = {}
        self.remarks: list[str] = []
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}
        facts = hooks.environment(run=hold.run, live=hold.live)
        self.service = Service(
            request.base.application, hold.target, facts, request.base.context(self.emit), self._note_hook
        )

    @property
    def live(self) -> str:
        """The live database's name."""
        return self.hold.live

    @property
    def comparing(self) -> Comparing:
        """The comparison of the rows with the restore point, in a limited time: a pipeline waits for it."""
        base = self.request.base
        return Comparing(base.compare, base.check.compare_limit, base.loss, bounded=True)

    @property
    def stopped_note(self) -> str:
        """A sentence for the state line of an error, empty if the application is not stopped."""
        return " The application is stopped." if self.stopped else ""

    def _note_hook(self, result: HookResult) -> None:
        self.note("hook", **result.model_dump(mode="json"))

    def note(self, event: str, **data: Any) -> None:
        """Write to the journal. A full disk must not stop a rollback, so an error is only reported."""
        try:
            self.journal.write(event, **data)
        except OSError as error:
            self.emit(Caution(f'cannot write the journal "{self.journal.path}": {error.strerror}'))

    def note_outcome(self, outcome: Outcome) -> None:
        """Record the outcome of the deployment with its restore point. If it changed nothing, the restore point does
        not help in an emergency that existed before; if it was deployed, differences are intended."""
        if self.point is not None:
            with suppress(OSError, LastgoodError):  # the note only helps to choose a restore point
                record_deployment(self.point.path, DeploymentNote(run=self.hold.run, outcome=outcome))

    def remark(self, text: str) -> None:
        """Emit a caution now, and add it to the report."""
        self.remarks.append(text)
        self.emit(Caution(text))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add to the duration of ``name``."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def over(self, status: Result, problem: str = "", error: LastgoodError | None = None) -> DeployReport:
        """End the deployment: write the report to the journal, pass it to ``ended`` and return it."""
        report = self._report(status, problem)
        data = {"error": recording.error_data(error)} if error is not None else {}
        journaled = "interrupted" if isinstance(error, Interrupted) else _JOURNALED[status]
        recording.write_end(self.journal, journaled, **data, report=report.document())
        self._ended(report)
        return report

    def _report(self, status: Result, problem: str = "") -> DeployReport:
        seconds = {**self._seconds, "total": time.monotonic() - self._began}
        application = None
        if self.service.results or self.health is not None:
            application = ApplicationReport(hooks=tuple(self.service.results), health=self.health, watch=None)
        return DeployReport(
            run=self.hold.run,
            status=status,
            live=self.live,
            label=self.request.label,
            started=self.hold.started,
            problem=problem,
            point=str(self.point.path) if self.point is not None else "",
            application=application,
            remarks=tuple(self.remarks),
            seconds={name: round(value, 3) for name, value in seconds.items()},
            **self.found,
        )


def words(error: BaseException) -> str:
    """Return an error on one line."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted repeatedly"
    if isinstance(error, LastgoodError):
        return str(error)
    if isinstance(error, psycopg.Error):
        with suppress(AttributeError):
            if error.diag.message_primary:
                return error.diag.message_primary
    return " ".join(str(error).split()) or type(error).__name__


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """The request of a deployment. ``base``: the live database, the store, the state folder, and the options of its
    rollback. ``command``: the migration, a program and its arguments. ``environment``: the caller's. ``allow_errors``:
    why errors that the migration prints but ignores are accepted; empty: they are not. ``expect_version``: the version
    that the migrations table must end at; empty: any."""

    base: Request
    command: tuple[str, ...] = field(repr=False)
    label: str = ""
    settings: Deploy = field(default_factory=Deploy)
    validation: Validate = field(default_factory=Validate)
    form: Form = "plain"
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    folder: Path | None = None
    allow_errors: str = ""
    expect_version: str = ""
