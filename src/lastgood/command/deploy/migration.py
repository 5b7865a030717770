"""The user's migration command: run under our eyes, its output shown as it comes, its sessions known, its end certain.

It ends with us: a time limit, Ctrl+C, a signal, and the warden when lastgood itself is killed. What it leaves on the
server is for ``ended`` to end, before anything is decided.
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
from lastgood.command.deploy.environment import MARK, environment
from lastgood.command.deploy.report import CommandReport
from lastgood.command.deploy.wish import Wish
from lastgood.deadman.migration import Order, standing_by
from lastgood.errors import NOT_REACHED, Failed, Refused, UsageError
from lastgood.events import Emit, Printed
from lastgood.postgres.outlived import Outlived, Trace, find
from lastgood.postgres.server import Connection, Target
from lastgood.process.companion import NotReady
from lastgood.process.run import Ended
from lastgood.process.supervised import Supervised
from lastgood.text import redact
from lastgood.text.units import duration

STAGE = "migrate"
WATCH_SECONDS = 0.2
OUTPUT_CHARACTERS = 4000


@dataclass(frozen=True, slots=True)
class Command:
    """What is run: the program and its arguments, with the whole ``environment``. ``scrub`` takes passwords out of all
    that it prints. ``allow_errors``: why errors that it prints are accepted, though it ends with status 0."""

    arguments: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)
    scrub: Callable[[str], str]
    folder: Path | None = None
    allow_errors: str = ""

    @property
    def program(self) -> str:
        """How it is called."""
        return PurePath(self.arguments[0]).name

    @property
    def shown(self) -> str:
        """The whole command line, for the one who gave it; without passwords."""
        return redact.command_line(self.arguments, self.scrub)


def command_of(wish: Wish, keywords: Mapping[str, str], run: str, **facts: str) -> Command:
    """The migration, with the database of ``keywords`` in its environment and ``facts`` besides; its password is hidden
    wherever it is printed."""
    live = keywords["dbname"]
    scrub = wish.request.application.scrub
    scrub.learn([keywords.get("password", "")], public=[keywords["user"], live])
    told = {"run": run, "live": live, "stage": STAGE, **facts}
    given = environment(keywords, run=run, variables=wish.settings.url_variables, facts=told, given=wish.environment)
    return Command(wish.command, given, scrub, wish.folder, wish.allow_errors)


def checked(arguments: Sequence[str]) -> tuple[str, ...]:
    """The command, when it can be run here. Raises UsageError, Refused: before anything is done."""
    if not arguments:
        raise UsageError(
            "cannot deploy: no migration command is given",
            hint="Write it behind two dashes: lastgood deploy -- alembic upgrade head",
            state=NOT_REACHED,
        )
    program = arguments[0]
    found = shutil.which(program) if os.sep not in program else program
    if found is None or not os.access(found, os.X_OK) or Path(found).is_dir():
        raise Refused(
            f'cannot deploy: the program "{program}" is not on this machine, or may not be run',
            hint="Correct the command behind the two dashes, or run this where the program is.",
            state=NOT_REACHED,
        )
    return tuple(arguments)


class Watcher(threading.Thread):
    """While the migration runs, remembers which sessions it has: some of its tools give theirs another name later.
    ``look`` is called with the connection each time."""

    def __init__(
        self,
        maintenance: Target,
        oid: int,
        trace: Trace,
        look: Callable[[Connection], None] = lambda connection: None,
        every: float = WATCH_SECONDS,
    ) -> None:
        super().__init__(name="lastgood-watch", daemon=True)
        self.seen: set[Outlived] = set()
        self._maintenance = maintenance
        self._oid = oid
        self._trace = trace
        self._look = look
        self._every = every
        self._over = threading.Event()

    def run(self) -> None:
        """Looks again and again; a server that is away is looked for again."""
        while not self._over.is_set():
            with suppress(psycopg.Error), self._maintenance.connect(application_name="lastgood watches") as connection:
                while not self._over.is_set():
                    self.seen.update(find(connection, self._oid, self._trace, anywhere=True))
                    self._look(connection)
                    self._over.wait(self._every)
            self._over.wait(WATCH_SECONDS)

    def stop(self) -> frozenset[Outlived]:
        """Ends it, and gives what it has seen."""
        self._over.set()
        self.join(timeout=15)
        return frozenset(self.seen)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the migration ended; ``problem`` is empty when it did well. ``interrupted``: because we were."""

    report: CommandReport
    problem: str
    interrupted: bool
    seen: frozenset[Outlived]


def run(
    command: Command,
    deployment: str,
    journal: Path,
    watcher: Watcher,
    emit: Emit,
    *,
    seconds: float,
    cancelled: Callable[[], bool],
) -> Outcome:
    """Runs it to its end. Raises Failed when it could not be started, or nobody would end it if we were killed."""
    mark = (MARK, deployment)
    complaints = Complaints()

    def printed(text: str) -> None:
        complaints.hear(text)
        emit(Printed(STAGE, command.scrub(text)))

    watcher.start()
    try:
        with standing_by(Order(mark, journal)) as warden:
            started = Supervised(
                command.arguments,
                environment=command.environment,
                mark=mark,
                line=printed,
                folder=command.folder,
            )
            warden.watch(started.group)
            try:
                ended = started.wait(seconds, cancelled)
                killed = 0
                if ended is None or ended.status != 0:
                    killed = started.end()  # what it left running would go on with a database that is taken back
            except BaseException:
                started.end()
                raise
            warden.dismiss()
    except OSError as error:
        raise Failed(
            f'cannot start the migration "{command.program}": {(error.strerror or str(error)).lower()}',
            hint="Correct the command behind the two dashes.",
        ) from error
    except NotReady as error:
        raise Failed(
            f"cannot start the migration: nobody would end it if lastgood were killed ({error})",
            hint="Try again; if it fails again, look whether this machine can start one more process.",
        ) from error
    finally:
        seen = watcher.stop()
    interrupted = ended is None
    ended = ended or Ended(None, started.tail, started.seconds)
    return _outcome(command, ended, complaints, killed, seen, interrupted, seconds)


def _outcome(
    command: Command,
    ended: Ended,
    complaints: Complaints,
    killed: int,
    seen: frozenset[Outlived],
    interrupted: bool,
    limit: float,
) -> Outcome:
    status, problem = ended.status, ""
    said = f'the migration "{command.program}"'
    number = -status if status is not None and status < 0 else None
    if interrupted:
        problem = f"{said} was interrupted"
    elif status is None:
        problem = f"{said} did not end within {duration(limit)} and was ended"
    elif number is not None:
        problem = f"{said} was killed by signal {number} ({_signal(number)})"
    elif status > 128 and status - 128 in set(signal.Signals):
        problem = f"{said} ended with status {status}: a program of it was killed by {_signal(status - 128)}"
    elif status != 0:
        problem = f"{said} ended with status {status}"
    elif complaints.count and not command.allow_errors:
        problem = f"{said} ended with status 0, but {command.scrub(complaints.said)}"
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
