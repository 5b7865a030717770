"""The user's migration command: run under supervision, with its output shown at once and its sessions recorded.

It never outlives lastgood: a time limit, Ctrl+C or a signal terminates it, or a dead-man switch if lastgood is killed.
Sessions that it leaves on the server are terminated later, before any decision.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import psycopg

from lastgood.command.deploy.complaints import Complaints
from lastgood.command.deploy.course import DeployRequest
from lastgood.command.deploy.environment import MARK, environment
from lastgood.command.deploy.report import CommandReport
from lastgood.context import Context
from lastgood.deadman import migration as deadman
from lastgood.errors import NOT_REACHED, Failed, Refused, UsageError, os_reason
from lastgood.events import Printed
from lastgood.journal.reader import MIGRATE
from lastgood.postgres.remaining_sessions import ProgramTrace, RemainingSession, find
from lastgood.postgres.server import Connection, Target
from lastgood.process.companion import NotReady
from lastgood.process.run import ProgramEnd
from lastgood.process.supervised import SupervisedProgram
from lastgood.text import redact
from lastgood.text.units import duration

STAGE = MIGRATE
WATCH_SECONDS = 0.2
OUTPUT_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class MigrationCommand:
    """The program and its arguments, with the whole ``environment``. ``scrub`` removes passwords from its output.
    ``allow_errors``: why errors in the output are accepted when it exits with status 0."""

    arguments: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    scrub: Callable[[str], str]
    folder: Path | None = None
    allow_errors: str = ""

    @property
    def program(self) -> str:
        """The name of the program."""
        return PurePath(self.arguments[0]).name

    @property
    def shown(self) -> str:
        """The whole command line without passwords, for the user who gave it."""
        return redact.command_line(self.arguments, self.scrub)


def command_of(request: DeployRequest, keywords: Mapping[str, str], run: str, **facts: str) -> MigrationCommand:
    """Build the migration command with the database of ``keywords`` and the ``facts`` in its environment. Its password
    is hidden wherever it is printed."""
    live = keywords["dbname"]
    scrub = request.base.application.scrub
    scrub.learn([keywords.get("password", "")], public=[keywords["user"], live])
    all_facts = {"run": run, "live": live, "stage": STAGE, **facts}
    given = environment(
        keywords, run=run, variables=request.settings.url_variables, facts=all_facts, given=request.environment
    )
    return MigrationCommand(request.command, given, scrub, request.folder, request.allow_errors)


def checked(arguments: Sequence[str]) -> tuple[str, ...]:
    """Check that the command can run here, before anything is done. Raises UsageError, Refused."""
    if not arguments:
        raise UsageError(
            "cannot deploy: no migration command is given",
            hint="Give it after two dashes: lastgood deploy -- alembic upgrade head",
            state=NOT_REACHED,
        )
    program = arguments[0]
    found = shutil.which(program) if os.sep not in program else program
    if found is None or not os.access(found, os.X_OK) or Path(found).is_dir():
        raise Refused(
            f'cannot deploy: program "{program}" does not exist on this machine or is not executable',
            hint="Correct the command after the two dashes, or run this where the program is installed.",
            state=NOT_REACHED,
        )
    return tuple(arguments)


class Watcher(threading.Thread):
    """A thread that records the migration's sessions while it runs: some tools rename theirs later. ``sample`` is
    called with the connection each time."""

    def __init__(
        self,
        maintenance: Target,
        oid: int,
        trace: ProgramTrace,
        sample: Callable[[Connection], None] = lambda connection: None,
        every: float = WATCH_SECONDS,
    ) -> None:
        super().__init__(name="lastgood-watch", daemon=True)
        self.seen: set[RemainingSession] = set()
        self.sessions = deadman.Sessions(maintenance, trace.tag[:63])
        self._maintenance = maintenance
        self._oid = oid
        self._trace = trace
        self._sample = sample
        self._every = every
        self._over = threading.Event()

    def run(self) -> None:
        """Record the sessions periodically. Reconnect if the connection is lost."""
        while not self._over.is_set():
            with suppress(psycopg.Error), self._maintenance.connect(application_name="lastgood watches") as connection:
                while not self._over.is_set():
                    self.seen.update(find(connection, self._oid, self._trace, anywhere=True))
                    self._sample(connection)
                    self._over.wait(self._every)
            self._over.wait(WATCH_SECONDS)

    def stop(self) -> frozenset[RemainingSession]:
        """Stop the thread and return the recorded sessions."""
        self._over.set()
        self.join(timeout=15)
        return frozenset(self.seen)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of the migration. ``problem`` is empty on success. ``interrupted``: by an interrupt of lastgood."""

    report: CommandReport
    problem: str
    interrupted: bool
    seen: frozenset[RemainingSession]


def run(
    command: MigrationCommand,
    deployment: str,
    journal: Path,
    watcher: Watcher,
    context: Context,
    *,
    seconds: float,
) -> Outcome:
    """Run the command to its end. Raises Failed when it cannot be started, or the dead-man switch cannot be started."""
    mark = (MARK, deployment)
    complaints = Complaints()

    def printed(text: str) -> None:
        complaints.read(text)
        context.emit(Printed(STAGE, command.scrub(text)))

    watcher.start()
    try:
        with deadman.armed_switch(mark, journal, watcher.sessions) as switch:
            started = SupervisedProgram(
                command.arguments,
                environment=command.environment,
                mark=mark,
                line=printed,
                folder=command.folder,
            )
            deadman.watch(switch, started.group)
            try:
                ended = started.wait(seconds, context.cancelled)
                killed = 0
                if ended is None or ended.status != 0:
                    killed = (
                        started.end()
                    )  # its remaining processes would go on changing a database that is rolled back
            except BaseException:
                started.end()
                switch.dismiss()
                raise
            switch.dismiss()
    except OSError as error:
        raise Failed(
            f'cannot start the migration "{command.program}": {os_reason(error)}',
            hint="Correct the command after the two dashes.",
        ) from error
    except NotReady as error:
        raise Failed(
            f"cannot start the migration: its supervising process did not start ({error})",
            hint="Try again. If it fails again, check the process limit of this machine.",
        ) from error
    finally:
        seen = watcher.stop()
    interrupted = ended is None
    ended = ended or ProgramEnd(None, started.tail, started.seconds)
    return _outcome(command, ended, complaints, killed, seen, interrupted, seconds)


def _outcome(
    command: MigrationCommand,
    ended: ProgramEnd,
    complaints: Complaints,
    killed: int,
    seen: frozenset[RemainingSession],
    interrupted: bool,
    limit: float,
) -> Outcome:
    status, problem = ended.status, ""
    subject = f'migration "{command.program}"'
    number = -status if status is not None and status < 0 else None
    if interrupted:
        problem = f"{subject} was interrupted"
    elif status is None:
        problem = f"{subject} exceeded its time limit of {duration(limit)} and was terminated"
    elif number is not None:
        problem = f"{subject} was killed by signal {number} ({_signal(number)})"
    elif status > 128 and status - 128 in set(signal.Signals):
        problem = f"{subject} exited with status {status}: one of its processes was killed by {_signal(status - 128)}"
    elif status != 0:
        problem = f"{subject} exited with status {status}"
    elif complaints.count and not command.allow_errors:
        problem = f"{subject} exited with status 0, but {command.scrub(complaints.summary)}"
    report = CommandReport(
        program=command.program,
        status=None if interrupted or (status is not None and status < 0) else status,
        signal=number,
        seconds=round(ended.seconds, 3),
        output=command.scrub(ended.output)[-OUTPUT_CHARACTERS:],
        processes_ended=killed if interrupted or status is None else 0,
        errors=tuple(map(command.scrub, complaints.first)),
        allowed=command.allow_errors if complaints.count else "",
    )
    return Outcome(report, problem, interrupted, seen)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
