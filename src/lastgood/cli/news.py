"""Tells people elsewhere what a command does: when it begins, how it ends, and that it was killed.

Whatever goes wrong with that is said at the end, and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import psycopg

from lastgood.cli.session import as_shown
from lastgood.config.tables import Notifications
from lastgood.config.tables.application import Kind, Recipient
from lastgood.errors import UNKNOWN_STATE, LastgoodError, UsageError
from lastgood.events import Caution, Emit, Event, Note, StageStarted
from lastgood.journal import Journal, caller
from lastgood.notifications import Address, Delivery, Listing, Message, Messenger, NoAddress, address_of, check_targets
from lastgood.notifications.messenger import concerns
from lastgood.postgres.server import Target
from lastgood.text import redact

if TYPE_CHECKING:
    from lastgood.screen.news import Story

Scrub = Callable[[str], str]
# A story, or what makes it: then only where somebody is to be told, and what goes wrong in it is harmless.
Tale: TypeAlias = "Story | Callable[[], Story]"


class News:
    """What one command tells. ``command`` is how it was called."""

    def __init__(self, settings: Notifications, scrub: Scrub, command: Sequence[str]) -> None:
        self._settings = settings
        self._scrub = scrub
        self._command = _told_command(command, scrub)
        self._unreachable: dict[str, tuple[Recipient, str]] = {}
        self._failed: list[Delivery] = []
        self._messenger: Messenger | None = None
        self.run = ""

    @contextmanager
    def telling(self, kind: Kind, target: Target, *, unattended: bool = False) -> Iterator[Telling]:
        """For the length of a ``with`` block: ``began`` tells that it begins, ``ended`` how it ended, and an error
        that comes out of the block is told by itself. One that comes before it began is told only when the command
        runs ``unattended``: otherwise somebody sits there and reads it."""
        telling = Telling(self, kind, target, unattended)
        try:
            yield telling
        except (Exception, KeyboardInterrupt) as error:
            telling.failed(error)
            raise
        finally:
            if self._messenger is not None:
                self._messenger.will(None)

    @property
    def wanted(self) -> bool:
        """Whether anybody is to be told anything."""
        return bool(self._settings.targets)

    @property
    def is_open(self) -> bool:
        """Whether anything is left to wait for, or to say."""
        return self._messenger is not None or bool(self._failed)

    def send(self, message: Message) -> None:
        """Begins to send it."""
        message = self._scrubbed(message)
        self._reached().send(message)
        for target, problem in self._unreachable.values():
            if concerns(message, target):
                self._failed.append(Delivery(target.name, message.title, 0.0, problem))

    def will(self, message: Message) -> None:
        """What is told if lastgood is killed."""
        self._reached().will(self._scrubbed(message))

    def look(self, names: Sequence[str], test: bool) -> Listing:
        """Whether the targets of these names, or all, can be told; ``test`` tells them."""
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
        """Whatever goes wrong in a ``with`` block is told at the end: it must not touch the work that is told of. The
        name of the database may not be had, for one."""
        try:
            yield
        except Exception as error:
            why = str(error).strip() if isinstance(error, psycopg.Error | OSError) else "a defect in lastgood"
            self._failed.append(Delivery("every target", "what happened", 0.0, f"{why} ({type(error).__name__})"))

    def figures(self, target: Target, run: str) -> list[tuple[str, str]]:
        """The run, who does it and where."""
        return [
            ("Run", run),
            ("By", f"{caller.user()} on {caller.host()}"),
            ("Server", host_of(target)),
            ("Command", self._command),
        ]

    def over(self, emit: Emit, state: Path) -> list[Delivery]:
        """Waits until everybody was told, or can't be; says who was not, and writes into the run's journal who was."""
        deliveries = []
        if self._messenger is not None:
            limit = f"{self._settings.time_limit:g} s"
            deliveries = self._messenger.over(
                lambda: emit(Note(f"sending notifications, for {limit} at most; Ctrl+C ends the wait"))
            )
            self._messenger = None
        deliveries += self._failed
        self._failed = []
        for each in deliveries:
            if each.problem:
                emit(Caution(f'notification "{each.title}" to "{each.target}" failed: {self._scrub(each.problem)}'))
        journal = Journal.find(state, self.run) if self.run else None
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


class Telling:
    """One procedure, told as it goes. Where nobody is to be told anything, it does nothing."""

    def __init__(self, news: News, kind: Kind, target: Target, unattended: bool) -> None:
        self._news = news
        self._kind = kind
        self._target = target
        self._unattended = unattended
        self._begun = False
        self._run = ""
        self._told: BaseException | None = None

    def began(self, run: str, story: Tale) -> None:
        """It is about to change something. ``run`` is empty where its name is not known yet."""
        self._begun = True
        self._run = self._news.run = run
        if self._news.wanted:
            self._send(story)
            with self._news.harmless():
                from lastgood.screen import news as shown  # here and below: only who tells something waits for it

                self._news.will(self._message(shown.killed(self._kind, self._target.dbname, run)))

    def on_work(self, emit: Emit, run: str, story: Tale) -> Emit:
        """The same ``emit``; the first stage of work that it hears of is when it ``began``."""

        def hear(event: Event) -> None:
            if isinstance(event, StageStarted) and not self._begun:
                self.began(run, story)
            emit(event)

        return hear

    def ended(self, story: Tale, run: str = "") -> None:
        """It ended well; ``run`` where its name was not known before."""
        self._run = self._news.run = run or self._run
        if self._news.wanted:
            self._send(story)

    def failed(self, error: BaseException, story: Tale | None = None, run: str = "") -> None:
        """It ended with an error, which is told once; by ``story`` where more is known than the error says."""
        self._run = self._news.run = run or self._run
        read_already = not self._begun and (not self._unattended or isinstance(error, UsageError))
        if not self._news.wanted or self._told is error or read_already:
            return
        self._told = error
        self._send(story or (lambda: self._as_it_is_shown(error)))

    def _as_it_is_shown(self, error: BaseException) -> Story:
        from lastgood.screen import news as shown

        seen = as_shown(error) or LastgoodError(f"a defect in lastgood ({type(error).__name__})", state=UNKNOWN_STATE)
        return shown.failed(seen, self._kind, self._target.dbname)

    def _send(self, story: Tale) -> None:
        with self._news.harmless():
            self._news.send(self._message(story() if callable(story) else story))

    def _message(self, story: Story) -> Message:
        from lastgood.screen import news as shown

        name = self._target.dbname
        if host := host_of(self._target):
            name += f" on {host}"
        return shown.message(story, self._kind, name, self._news.figures(self._target, self._run))


def _told_command(words: Sequence[str], scrub: Scrub) -> str:
    """The command line, without secrets: of a migration's or another program's its name alone, for what its arguments
    mean only its owner knows, and this leaves the house."""
    own = list(words)
    theirs = ""
    if "--" in own:
        place = own.index("--") + 2
        theirs = " …" if own[place:] else ""
        own = own[:place]
    return redact.command_line(("lastgood", *own), scrub) + theirs


def host_of(target: Target) -> str:
    """The server's name, where it has one: not that of the folder of a socket."""
    keywords = target.keywords
    host = keywords.get("host") or keywords.get("hostaddr") or keywords.get("service") or ""
    return "" if host.startswith("/") else host
