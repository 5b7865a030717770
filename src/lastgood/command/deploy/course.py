"""The course of one deployment: what its parts share, and what is known of it so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event
from typing import Any

import psycopg

from lastgood.application import hooks
from lastgood.application.results import ApplicationReport, HealthResult, HookResult
from lastgood.application.service import Service
from lastgood.command.deploy.hold import Hold
from lastgood.command.deploy.keys import Declared
from lastgood.command.deploy.report import DeployReport, Result
from lastgood.command.deploy.wish import Wish
from lastgood.command.validate.validate import Verdict
from lastgood.errors import Interrupted, LastgoodError
from lastgood.events import Caution, Emit
from lastgood.journal import Journal, recording
from lastgood.points import RestorePoint
from lastgood.points.manifest import DeploymentNote, Outcome, note_deployment
from lastgood.postgres.outlived import Outlived, Trace
from lastgood.postgres.state import DatabaseState

# How the journals of all procedures call it.
_JOURNALED: dict[Result, str] = {
    "deployed": "done",
    "unchanged": "failed",
    "rolled back": "undone",
    "not rolled back": "stopped",
}


class Course:
    """A deployment whose live database is held. ``stop`` is set when we were told to stop."""

    def __init__(
        self,
        wish: Wish,
        hold: Hold,
        journal: Journal,
        emit: Emit,
        stop: Event,
        ended: Callable[[DeployReport], None],
    ) -> None:
        self.wish = wish
        self.hold = hold
        self.journal = journal
        self.emit = emit
        self.stop = stop
        self._ended = ended
        self.stopped = False  # whether we have stopped the application, and not started it again
        self.before: Verdict | None = None
        self.healthy_before: bool | None = None
        self.state: DatabaseState | None = None
        self.server: dict[tuple[str, str], str] = {}
        self.rights: frozenset[str] = frozenset()
        self.keys = Declared()
        self.point: RestorePoint | None = None
        self.trace: Trace | None = None
        self.seen: frozenset[Outlived] = frozenset()
        self.health: HealthResult | None = None
        self.found: dict[str, Any] = {}
        self.remarks: list[str] = []
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}
        facts = hooks.environment(run=hold.run, live=hold.live)
        self.service = Service(wish.request.application, hold.target, wish.request.state, facts, emit, self._told)

    @property
    def live(self) -> str:
        """The live database's name."""
        return self.hold.live

    @property
    def asleep(self) -> str:
        """For the state in an error."""
        return " The application is stopped." if self.stopped else ""

    def _told(self, result: HookResult) -> None:
        self.note("hook", **result.model_dump(mode="json"))

    def note(self, event: str, **data: Any) -> None:
        """Into the journal; on the way back a full disk is no reason to stop."""
        try:
            self.journal.write(event, **data)
        except OSError as error:
            self.emit(Caution(f'cannot write the journal "{self.journal.path}": {error.strerror}'))

    def note_outcome(self, outcome: Outcome) -> None:
        """Record with the restore point what became of the deployment that it was made for: where that changed nothing,
        it does not help in an emergency that was there before; where it was deployed, what differs is meant to."""
        if self.point is not None:
            with suppress(OSError, LastgoodError):  # it only helps to choose
                note_deployment(self.point.path, DeploymentNote(run=self.hold.run, outcome=outcome))

    def remark(self, text: str) -> None:
        """Something that people should know of: told now, and in the report."""
        self.remarks.append(text)
        self.emit(Caution(text))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds to how long ``name`` took."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - began

    def seconds(self, name: str) -> float:
        """How long ``name`` took so far."""
        return self._seconds.get(name, 0.0)

    def over(self, status: Result, problem: str = "", error: LastgoodError | None = None) -> DeployReport:
        """The deployment has ended: its report, which is in the journal now, and was given to who asked for it."""
        report = self._report(status, problem)
        told = {"error": recording.error_data(error)} if error is not None else {}
        journaled = "interrupted" if isinstance(error, Interrupted) else _JOURNALED[status]
        recording.ended(self.journal, journaled, **told, report=report.document())
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
            label=self.wish.label,
            started=self.hold.started,
            problem=problem,
            point=str(self.point.path) if self.point is not None else "",
            application=application,
            remarks=tuple(self.remarks),
            seconds={name: round(value, 3) for name, value in seconds.items()},
            **self.found,
        )


def words(error: BaseException) -> str:
    """An error on one line."""
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted again and again"
    if isinstance(error, LastgoodError):
        return str(error)
    if isinstance(error, psycopg.Error):
        with suppress(AttributeError):
            if error.diag.message_primary:
                return error.diag.message_primary
    return " ".join(str(error).split()) or type(error).__name__
