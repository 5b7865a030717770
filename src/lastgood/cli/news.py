"""Notifications about a command: its begin, its end, and that it was killed.

Failed notifications are reported at the end, and do not affect the command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

import psycopg

from lastgood.cli.session import as_shown
from lastgood.config.tables import Notifications
from lastgood.config.tables.application import Kind, Recipient
from lastgood.context import Context
from lastgood.errors import SHOW_STATE, UNKNOWN_STATE, LastgoodError, UsageError
from lastgood.events import Caution, Emit, Event, Note, StageStarted
from lastgood.journal import Journal, caller
from lastgood.notifications import (
    Address,
    Delivery,
    Message,
    Messenger,
    NoAddress,
    TargetList,
    address_of,
    check_targets,
)
from lastgood.notifications.messenger import receives
from lastgood.postgres.server import Target
from lastgood.text import redact

if TYPE_CHECKING:
    from lastgood.screen.news import Story

Scrub = Callable[[str], str]
# A story, or a function that builds it: called only if there are targets; its errors do not affect the command.
Tale: TypeAlias = "Story | Callable[[], Story]"


class News:
    """The notifications of one command. ``command``: its command line."""

    def __init__(self, settings: Notifications, scrub: Scrub, command: Sequence[str]) -> None:
        self._settings = settings
        self._scrub = scrub
        self._command = _public_command(command, scrub)
        self._unreachable: dict[str, tuple[Recipient, str]] = {}
        self._failed: list[Delivery] = []
        self._messenger: Messenger | None = None
        self.run = ""

    @contextmanager
    def notifying(self, kind: Kind, target: Target, *, unattended: bool = False) -> Iterator[Notifier]:
        """Notify about a procedure for the length of a ``with`` block: call ``began`` at its begin and ``ended`` at its
        end. An error that leaves the block is sent automatically. An error before ``began`` is sent only if the
        command runs ``unattended``; otherwise the operator reads it at the terminal."""
        notifier = Notifier(self, kind, target, unattended)
        try:
            yield notifier
        except (Exception, KeyboardInterrupt) as error:
            notifier.failed(error)
            raise
        finally:
            if self._messenger is not None:
                self._messenger.set_will(None)

    @property
    def wanted(self) -> bool:
        """Whether any target is configured."""
        return bool(self._settings.targets)

    @property
    def is_open(self) -> bool:
        """Whether messages are pending, or failures unreported."""
        return self._messenger is not None or bool(self._failed)

    def send(self, message: Message) -> None:
        """Start sending a message."""
        message = self._scrubbed(message)
        self._reached().send(message)
        for target, problem in self._unreachable.values():
            if receives(message, target):
                self._failed.append(Delivery(target.name, message.title, 0.0, problem))

    def will(self, message: Message) -> None:
        """Set the message to send if lastgood is killed."""
        self._reached().set_will(self._scrubbed(message))

    def check(self, names: Sequence[str], test: bool) -> TargetList:
        """Check the named targets, or all; ``test`` sends them a test message."""
        targets = [each for each in self._settings.targets if not names or each.name in names]
        found = check_targets(targets, self._settings.time_limit, self._test if test else None)
        cleaned = [each.model_copy(update={"problem": self._scrub(each.problem)}) for each in found.targets]
        return found.model_copy(update={"targets": tuple(cleaned)})

    def _test(self, name: str) -> Message:
        from lastgood.screen import news as shown

        figures = [("By", f"{caller.user()} on {caller.host()}"), ("Command", self._command)]
        return self._scrubbed(shown.message(shown.test(name), "rollback", "", figures))

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """Record an error in a ``with`` block, to be reported at the end: it must not affect the command. The name of
        the database may be unavailable, for example."""
        try:
            yield
        except Exception as error:
            why = str(error).strip() if isinstance(error, psycopg.Error | OSError) else "a defect in lastgood"
            self._failed.append(Delivery("every target", "what happened", 0.0, f"{why} ({type(error).__name__})"))

    def figures(self, target: Target, run: str) -> list[tuple[str, str]]:
        """Return the run, the operator and the server, as pairs for the last lines of a message."""
        return [
            ("Run", run),
            ("By", f"{caller.user()} on {caller.host()}"),
            ("Server", host_of(target)),
            ("Command", self._command),
        ]

    def over(self, context: Context) -> list[Delivery]:
        """Wait for the pending messages, report the failed ones, and record all of them in the run's journal."""
        emit = context.emit
        deliveries = []
        if self._messenger is not None:
            limit = f"{self._settings.time_limit:g} s"
            deliveries = self._messenger.finish(
                lambda: emit(Note(f"sending notifications, for {limit} at most; Ctrl+C ends the wait"))
            )
            self._messenger = None
        deliveries += self._failed
        self._failed = []
        for each in deliveries:
            if each.problem:
                emit(Caution(f'notification "{each.title}" to "{each.target}" failed: {self._scrub(each.problem)}'))
        journal = Journal.find(context.records, self.run) if self.run else None
        if journal is not None:
            with suppress(OSError):
                for each in deliveries:
                    journal.write(
                        "notified", target=each.target, title=each.title, seconds=each.seconds, problem=each.problem
                    )
        return deliveries

    def _reached(self) -> Messenger:
        if self._messenger is None:
            found: list[Address] = []
            for target in self._settings.targets:
                try:
                    found.append(address_of(target))
                except NoAddress as error:
                    self._unreachable[target.name] = (target, f"{error}. {error.hint.rstrip('.')}")
            self._messenger = Messenger(found, self._settings.time_limit)
        return self._messenger

    def _scrubbed(self, message: Message) -> Message:
        return Message(
            events=message.events,
            kind=message.kind,
            title=self._scrub(message.title),
            text=self._scrub(message.text),
            markdown=self._scrub(message.markdown),
            html=self._scrub(message.html),
        )


class Notifier:
    """The notifications about one procedure. Without targets, it does nothing."""

    def __init__(self, news: News, kind: Kind, target: Target, unattended: bool) -> None:
        self._news = news
        self._kind = kind
        self._target = target
        self._unattended = unattended
        self._begun = False
        self._run = ""
        self._sent_error: BaseException | None = None

    def began(self, run: str, story: Tale) -> None:
        """Notify before the first change. ``run`` is empty if its name is unknown."""
        self._begun = True
        self._run = self._news.run = run
        if self._news.wanted:
            self._send(story)
            with self._news.harmless():
                from lastgood.screen import news as shown  # here and below: imported only for notifications

                self._news.will(self._message(shown.killed(self._kind, self._target.dbname, run)))

    def on_work(self, emit: Emit, run: str, story: Tale) -> Emit:
        """Return an ``emit`` that calls ``began`` at the first stage of work."""

        def begin_at_first_stage(event: Event) -> None:
            if isinstance(event, StageStarted) and not self._begun:
                self.began(run, story)
            emit(event)

        return begin_at_first_stage

    def ended(self, story: Tale, run: str = "") -> None:
        """Notify about success; ``run``: its name, if it was unknown before."""
        self._run = self._news.run = run or self._run
        if self._news.wanted:
            self._send(story)

    def failed(self, error: BaseException, story: Tale | None = None, run: str = "") -> None:
        """Notify about an error, once; by ``story`` if it has more information than the error."""
        self._run = self._news.run = run or self._run
        shown_at_terminal = not self._begun and (not self._unattended or isinstance(error, UsageError))
        if not self._news.wanted or self._sent_error is error or shown_at_terminal:
            return
        self._sent_error = error
        self._send(story or (lambda: self._story_of(error)))

    def _story_of(self, error: BaseException) -> Story:
        from lastgood.screen import news as shown

        shown_error = as_shown(error) or LastgoodError(
            f"a defect in lastgood ({type(error).__name__})", hint=SHOW_STATE, state=UNKNOWN_STATE
        )
        return shown.failed(shown_error, self._kind, self._target.dbname)

    def _send(self, story: Tale) -> None:
        with self._news.harmless():
            self._news.send(self._message(story() if callable(story) else story))

    def _message(self, story: Story) -> Message:
        from lastgood.screen import news as shown

        name = self._target.dbname
        if host := host_of(self._target):
            name += f" on {host}"
        return shown.message(story, self._kind, name, self._news.figures(self._target, self._run))


def _public_command(words: Sequence[str], scrub: Scrub) -> str:
    """Return the command line without secrets. Of another program (a migration), only its name is included, because its
    arguments may be secret and the message leaves the machine."""
    own = list(words)
    theirs = ""
    if "--" in own:
        place = own.index("--") + 2
        theirs = " …" if own[place:] else ""
        own = own[:place]
    return redact.command_line(("lastgood", *own), scrub) + theirs


def host_of(target: Target) -> str:
    """Return the server's host name; empty for a socket."""
    keywords = target.keywords
    host = keywords.get("host") or keywords.get("hostaddr") or keywords.get("service") or ""
    return "" if host.startswith("/") else host
