"""One call of lastgood: its settings, its screen, and the way from errors to exit statuses."""

from __future__ import annotations

import errno
import gc
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import typer

from lastgood import __version__, config
from lastgood.application import Application
from lastgood.config.options import LIBPQ
from lastgood.config.settings import Settings, resolve
from lastgood.config.signing import Signing
from lastgood.context import Context, Pace
from lastgood.errors import (
    SHOW_STATE,
    UNKNOWN_STATE,
    Failed,
    Interrupted,
    LastgoodError,
    Refused,
    UsageError,
    continued,
)
from lastgood.events import Caution, Emit
from lastgood.journal import caller
from lastgood.postgres import errors as server_errors
from lastgood.postgres import unreachable, waits
from lastgood.postgres.database import NoSuchDatabase
from lastgood.postgres.server import Target
from lastgood.process import durable, interrupts
from lastgood.screen import errors as shown_errors
from lastgood.screen.screen import Screen
from lastgood.text.redact import Scrubber, secrets_within

if TYPE_CHECKING:
    from lastgood.cli.news import News
    from lastgood.plan.plan import CodePolicy, Request

# A failure after an interrupt is reported as interrupted: it changed nothing, or was rolled back.
_CUT_SHORT = (Refused.exit_status, Failed.exit_status)


class Session:
    """One call of lastgood. Created before the command line is parsed; ``use`` adds the settings."""

    def __init__(
        self,
        arguments: list[str],
        environment: Mapping[str, str] = os.environ,
        given: dict[str, config.Value] | None = None,
    ) -> None:
        self.given = given if given is not None else {}
        self.settings = Settings(json="--json" in arguments, state=_state(environment))
        self.scrub = Scrubber()
        # Wraps the JSON document, where one command runs another.
        self.frame: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document
        self._arguments = arguments
        self._warned = False
        self._environment = environment
        self._news: News | None = None
        self._learn_secrets(self.scrub)
        self.screen = Screen(scrub=self.scrub, no_color="--no-color" in arguments)

    def settle(self) -> None:
        """Resolve the settings from ``given``, the environment and the file. Raises UsageError."""
        self.use(resolve(self.given))
        if not gc.isenabled():
            # The loaded modules stay in memory: exclude them from garbage collection (see ``__main__``).
            gc.freeze()
            gc.enable()

    def use(self, settings: Settings) -> None:
        """Apply the settings of the command that is about to run."""
        self.settings = settings
        keywords = self.target.keywords
        public = [value for key, value in keywords.items() if key in ("user", "dbname", "host", "hostaddr")]
        self.scrub = Scrubber()
        self._learn_secrets(self.scrub, public)
        self.scrub.learn_from(settings.db, self._environment, public)
        self.scrub.learn((keywords[key] for key in ("password", "sslpassword") if keywords.get(key)), public)
        # Hooks and other commands of the file may have secrets in their arguments.
        self.scrub.learn(secrets_within(settings.tables.model_dump(exclude_unset=True)), public)
        self.screen = Screen(scrub=self.scrub, no_color=settings.no_color)
        caller.announce(self._arguments, self.scrub)
        Signing.key_file = settings.key_file
        Signing.trusted = settings.trust_unsigned
        waits.WaitLimit.seconds = settings.tables.server.wait_limit

    def _learn_secrets(self, scrub: Scrubber, public: Iterable[str] = ()) -> None:
        for text in (*self._arguments, *(self._environment.get(name, "") for name in config.option("db").environment)):
            scrub.learn_from(text, self._environment, public)

    @property
    def target(self) -> Target:
        """The live database. libpq supplies the parameters that the settings leave out."""
        return Target.parse(self.settings.db)

    def rollback_command(self, point: str) -> str:
        """Return the command that rolls back to a restore point of the store, by its name."""
        store = self.settings.store if self.settings.origins.get("store") == "--store" else None
        words = ["lastgood", "rollback", *(["--store", str(store)] if store is not None else []), point]
        return shlex.join(words)

    @property
    def names_a_database(self) -> bool:
        """Whether an option, the environment or the configuration names a database. Otherwise libpq uses the user's
        name."""
        return bool(self.settings.db) or any(self._environment.get(name) for name in ("PGDATABASE", "PGSERVICE"))

    def unnamed(self, why: str) -> UsageError:
        """Return the error for a database that is not named, where libpq's defaults do not connect either."""
        from lastgood.config import nearby  # here, because it is rarely needed

        if self.settings.db:
            return UsageError(
                f"cannot choose a database: the address from {self.settings.origins['db']} names none ({why})",
                hint="Add its name: postgresql://user@host:5432/name, or dbname=name. To list them: psql --list",
                state=config.NOTHING_READ,
            )
        found = nearby.databases(Path.cwd())
        name = (
            "Name it: --db postgresql://user@host:5432/name; or LASTGOOD_DB, DATABASE_URL, or PGHOST and PGDATABASE in "
            'the environment; or db = "…" in lastgood.toml. Put its password in ~/.pgpass.'
        )
        return UsageError(
            f"cannot choose a database: none is named ({why})",
            hint="\n".join([*found, f"Or n{name[1:]}" if found else name]),
            state=config.NOTHING_READ,
        )

    @property
    def pace(self) -> Pace:
        """The limits of a load on the server."""
        return Pace(self.settings.jobs, self.settings.max_wal_lag, self.settings.throttle)

    @property
    def application(self) -> Application:
        """The application that uses the live database, as configured in lastgood.toml."""
        tables, file = self.settings.tables, self.settings.file
        return Application(
            hooks=tables.hooks,
            health=tables.health,
            watch=tables.watch,
            on_failure=self.settings.on_failure,
            folder=file.absolute().parent if file is not None else None,
            scrub=self.scrub,
        )

    @property
    def code_policy(self) -> CodePolicy:
        """Who runs code of restore points. Raises UsageError."""
        from lastgood.plan.plan import CodePolicy

        reason, url = self.settings.trust_code, self.settings.build_as
        if reason and url and self.settings.origins.get("build_as") != "--build-as":
            url = ""  # of the environment, or of lastgood.toml
        if reason and url:
            raise UsageError(
                "cannot trust code and run it as another role: --trust-code and --build-as contradict each other",
                hint="Give one of them.",
                state=config.NOTHING_READ,
            )
        if self.settings.origins.get("trust_code") == "--trust-code" and not reason.strip():
            raise UsageError(
                "cannot trust code: the reason is empty",
                hint="Give --trust-code REASON, which is recorded.",
                state=config.NOTHING_READ,
            )
        return CodePolicy(reason.strip(), Target.parse(url) if url else None)

    @property
    def request(self) -> Request:
        """The base of every request about the live database."""
        # Imported here, because `lastgood status` and the commands for restore points need none.
        from lastgood.plan.plan import Request

        settings = self.settings
        return Request(
            target=self.target,
            store=settings.store,
            state=settings.state,
            pace=self.pace,
            code=self.code_policy,
            check=settings.tables.check,
            application=self.application,
            pgbouncer=settings.tables.pgbouncer,
            drill=settings.tables.drill,
            loss=settings.tables.loss,
        )

    @property
    def news(self) -> News:
        """The notifications of this command, as configured in [notifications] of lastgood.toml."""
        if self._news is None:
            from lastgood.cli.news import News  # imported only for notifications, because it is slow

            self._news = News(self.settings.tables.notifications, self.scrub, self._arguments)
        return self._news

    def over(self) -> None:
        """Wait for the pending notifications at the end of the command, and report the failed ones."""
        if self._news is not None and self._news.is_open:
            # A failure here does not change the exit status of the command.
            try:
                with self.events() as emit:
                    self._news.over(self.context(emit))
            except KeyboardInterrupt:
                pass
            except Exception as error:
                self.defect(error)

    @contextmanager
    def events(self) -> Iterator[Emit]:
        """Provide an ``Emit`` for the length of a ``with`` block."""
        # Imported here, because many commands show no progress, and Rich's live display is slow to load.
        from lastgood.screen import progress

        settings = self.settings
        with progress.events(self.screen, as_json=settings.json, quiet=settings.quiet) as emit:
            if settings.origins.get("db") == "--db" and self.target.keywords.get("password") and not self._warned:
                self._warned = True
                emit(
                    Caution(
                        "the password in --db is visible to other users of this machine while lastgood runs; "
                        "use LASTGOOD_DB or ~/.pgpass instead"
                    )
                )
            yield emit

    def context(self, emit: Emit) -> Context:
        """The context of a command's work."""
        return Context(emit, pace=self.pace, state=self.settings.state)

    @contextmanager
    def work(self, *, unsuspended: str = "") -> Iterator[Context]:
        """Provide the context of work that leaves nothing behind when interrupted. ``unsuspended``: why Ctrl+Z does not
        suspend it; empty if it does.

        The first Ctrl+C makes ``cancelled`` true, the second raises KeyboardInterrupt.
        """
        wanted = interrupts.StopRequest()
        with self.events() as emit:

            def stop() -> None:
                emit(Caution("stopping; press Ctrl+C again to stop at once"))

            suspended = (lambda: emit(Caution(unsuspended))) if unsuspended else None
            with interrupts.on_signal(stop, mark=wanted.mark, suspended=suspended):
                try:
                    yield self.context(emit).until(wanted.is_set)
                except (LastgoodError, psycopg.Error) as error:
                    shown = as_shown(error)
                    if not wanted.is_set() or shown is None or shown.exit_status not in _CUT_SHORT:
                        raise
                    raise Interrupted("interrupted", state=shown.state) from error

    @property
    def interactive(self) -> bool:
        """Whether stdin and stderr are a terminal, so that questions can be asked."""
        return not self.settings.json and sys.stdin.isatty() and self.screen.err.is_terminal

    def answer(self) -> str:
        """Read one line from the terminal; the prompt is printed on stderr. Raises EOFError."""
        self.screen.err.file.write("> ")
        self.screen.err.file.flush()
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            self.screen.err.file.write("\n")  # the terminal shows ^C after the prompt
            raise
        if not line:
            self.screen.err.file.write("\n")
            raise EOFError
        return line.strip()

    def confirm(
        self,
        what: str,
        expected: str,
        yes: bool,
        *,
        instead: Mapping[str, str] | None = None,
        decision: str = "",
        style: str = "bold",
    ) -> str:
        """Ask the operator to type ``expected``, the database's name, and return the answer. ``yes`` answers for them.

        ``what`` is the action, as in "to undo". ``instead``: other answers and their actions, as in "to resume".
        ``decision``: what the answer decides about, in the line of the question.

        Raises Refused for any other answer, or when stdin is not a terminal.
        """
        if yes:
            return expected
        if not self.interactive:
            raise Refused(
                "cannot continue: confirmation is required and stdin is not a terminal",
                hint="Run the same command with --yes to confirm.",
            )
        others = {word: doing for word, doing in (instead or {}).items() if word != expected}
        for word, doing in others.items():
            self.screen.say(f'To {doing}, type "{word}".', stderr=True, style="bold")
        question = f"{decision} · type {expected}:" if decision else ""
        question = question or f"To {what}, type the name of the database, {expected}:"
        self.screen.say(question, stderr=True, style=style)
        try:
            answer = self.answer()
        except (KeyboardInterrupt, EOFError):
            raise Interrupted("interrupted") from None
        if answer != expected and answer not in others:
            raise Refused(
                f'cannot continue: "{expected}" was not typed',
                hint="Run the same command again to repeat the question.",
            )
        return answer

    def result(self, document: dict[str, Any], text: Callable[[], None]) -> None:
        """Print the result of a command: one JSON document, or text."""
        if self.settings.json:
            self.screen.document(self.frame(document))
        else:
            text()

    @contextmanager
    def framed(self, frame: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[None]:
        """Wrap the command's JSON document with ``frame`` for the length of a ``with`` block."""
        before, self.frame = self.frame, frame
        try:
            yield
        finally:
            self.frame = before

    def failed(self, error: LastgoodError) -> int:
        """Show an error and return its exit status. If no database is named, that is shown as the cause."""
        cause = _of_the_database(error)
        if cause is not None and (not self.names_a_database or self._is_of_no_name(cause)):
            error = self.unnamed(" ".join(str(cause).removeprefix("connection is bad: ").split()))
        elif cause is not None and (origin := self.settings.origins.get("db", LIBPQ)) not in ("--db", LIBPQ):
            error.hint = continued(error.hint, f"The address comes from {origin}.")
        if self.settings.json:
            self.screen.document(shown_errors.document(error))
        else:
            shown_errors.show(self.screen, error)
        return error.exit_status

    def _is_of_no_name(self, cause: BaseException) -> bool:
        """Whether the server lacks a database of the role's name, which libpq uses where an address has no name."""
        named = self.target.keywords.get("dbname") or self.target.keywords.get("service") or not self.settings.db
        return not named and re.search(r'database ".*" does not exist', str(cause)) is not None

    def ended_by(self, error: BaseException) -> int:
        """Show what ended the command and return its exit status."""
        return self.failed(as_shown(error) or self.defect(error))

    def defect(self, error: BaseException) -> LastgoodError:
        """Write a report of an unexpected error, and return the error that names the file."""
        report = "".join(traceback.format_exception(error))
        text = f"lastgood {__version__}, {datetime.now(UTC).isoformat(timespec='seconds')}\n\n{self.scrub(report)}"
        place = self.settings.state / "defects" / f"{datetime.now(UTC):%Y%m%d_%H%M%S}_{os.getpid()}.txt"
        try:
            durable.write_private(place, text.encode("utf-8", "backslashreplace"))
            where = f'The report is in "{place}".'
        except OSError as trouble:
            self.screen.say(text, stderr=True, lines=True)
            where = f"The report could not be written ({trouble.strerror}) and is printed above."
        return LastgoodError(
            f"cannot continue: a defect in lastgood ({type(error).__name__})",
            hint=f"{where} {SHOW_STATE}",
            state=UNKNOWN_STATE,
        )


# The last two come from a transaction pooler.
_OF_THE_SERVER = (
    psycopg.OperationalError,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.DuplicatePreparedStatement,
    psycopg.errors.InvalidSqlStatementName,
)


def as_shown(error: BaseException) -> LastgoodError | None:
    """Return the error to show to the user; None for a defect. After an unhandled interrupt the state is unknown."""
    if isinstance(error, LastgoodError):
        return error
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        return Interrupted("interrupted", hint=SHOW_STATE, state=UNKNOWN_STATE)
    if isinstance(error, _OF_THE_SERVER):
        found = server_errors.failed(error, "continue", state=UNKNOWN_STATE)
        found.hint = continued(found.hint, SHOW_STATE)
        found.__cause__ = error
        return found
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        named = f' ("{error.filename}")' if error.filename else ""
        return Failed(
            f"cannot continue: {error.strerror}{named}",
            hint=f"Free disk space on this machine, then run the command again. {SHOW_STATE}",
            state=UNKNOWN_STATE,
        )
    return None


def _of_the_database(error: BaseException | None) -> BaseException | None:
    """Return the cause if the server could not be reached or has no such database; None for any other error."""
    if error is None or isinstance(error, UsageError):
        return None
    refused = isinstance(error, psycopg.Error) and unreachable.is_attempt(error)
    return error if refused or isinstance(error, NoSuchDatabase) else _of_the_database(error.__cause__)


def _state(environment: Mapping[str, str]) -> Path:
    """Return the state folder for reports that are written before the settings are resolved."""
    return Path(environment.get("LASTGOOD_STATE") or str(config.option("state").default))
