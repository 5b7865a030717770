"""This side of the program that tells people elsewhere: it is started when there is something to tell, given messages,
and asked at the end what became of them. Nothing here waits before that, and nothing raises."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from lastgood.config.tables.notifying import Recipient
from lastgood.notifications.address import Address
from lastgood.notifications.message import Delivery, Message
from lastgood.process.companion import Companion, beside

PROGRAM = Path(__file__).with_name("sender.py")
# What the program takes to end when its time is over.
GRACE_SECONDS = 1.0
HEAR_SECONDS = 0.25
# For so long nobody wonders what we wait for.
SILENCE_SECONDS = 1.0
GONE = "the program that sends messages has ended"


class Messenger:
    """Tells ``addresses``. ``limit``: how long one message may take, and how long ``over`` waits at most."""

    def __init__(self, addresses: Sequence[Address], limit: float) -> None:
        self._addresses = addresses
        self._limit = limit
        self._stack = ExitStack()
        self._talk: Companion | None = None
        self._broken = ""
        self._waiting: list[tuple[str, str]] = []
        self._deliveries: list[Delivery] = []

    def send(self, message: Message, *, only: str | None = None) -> None:
        """Begins to tell everybody whom it concerns, or ``only`` one."""
        names = self._concerned(message) if only is None else [only]
        if names and self._started():
            self._waiting += [(name, message.title) for name in names]
            self._say({"message": _sent(message, names)})
        elif names:
            self._deliveries += [Delivery(name, message.title, 0.0, self._broken) for name in names]

    def will(self, message: Message | None) -> None:
        """What is to be told if we are killed; None: nothing any more."""
        names = self._concerned(message) if message is not None else []
        if names and message is not None:
            if self._started():
                self._say({"will": _sent(message, names)})
        elif self._talk is not None:
            self._say({"will": None})

    def problems(self) -> dict[str, str]:
        """What can be seen to be wrong with the addresses, by the names of the targets; nothing is sent."""
        if not self._addresses:
            return {}
        if not self._started():
            return {each.target.name: self._broken for each in self._addresses}
        for answer in self._answers(time.monotonic() + self._limit + GRACE_SECONDS):
            if "problems" in answer:
                found: dict[str, str] = answer["problems"]
                return found
        return {each.target.name: GONE for each in self._addresses}

    def over(self, waiting: Callable[[], None] = lambda: None) -> list[Delivery]:
        """Waits, at most so long as one message may take, until everybody has been told; what became of each message.
        A Ctrl+C ends the wait; the program goes on trying. ``waiting`` is called when it takes a while."""
        if self._talk is None:
            return self._taken()
        self._say({"over": self._limit})
        began, told = time.monotonic(), False
        late = f"it did not take the message within {self._limit:g} s"
        try:
            for answer in self._answers(began + self._limit + GRACE_SECONDS):
                if not told and time.monotonic() - began > SILENCE_SECONDS:
                    told = True
                    waiting()
                if "target" in answer:
                    self._heard(Delivery(**answer))
                elif answer.get("over"):
                    late = GONE
                    break
        except KeyboardInterrupt:
            late = "it had not taken the message when Ctrl+C ended the wait"
        seconds = round(time.monotonic() - began, 3)
        self._deliveries += [Delivery(name, title, seconds, late) for name, title in self._waiting]
        self._waiting.clear()
        self._talk = None
        with suppress(KeyboardInterrupt):
            self._stack.close()
        return self._taken()

    def _concerned(self, message: Message) -> list[str]:
        return [each.target.name for each in self._addresses if concerns(message, each.target)]

    def _started(self) -> bool:
        if self._talk is None and not self._broken:
            # The folder of the program is no place for modules: its names are too common.
            arguments: list[str | Path] = [sys.executable, "-P", PROGRAM]
            try:
                self._talk = self._stack.enter_context(beside(arguments, seconds=GRACE_SECONDS))
            except OSError as error:
                self._broken = f"the program that sends messages can't be started: {error.strerror or error}"
                return False
            self._say({"targets": {each.target.name: each.url for each in self._addresses}, "limit": self._limit})
        return self._talk is not None

    def _say(self, order: dict[str, Any]) -> None:
        assert self._talk is not None
        with suppress(OSError):  # it has ended: what became of the messages is told at the end
            self._talk.say(json.dumps(order))

    def _answers(self, deadline: float) -> Iterator[dict[str, Any]]:
        assert self._talk is not None
        while time.monotonic() < deadline:
            line = self._talk.hear(HEAR_SECONDS)
            if line == "":
                yield {"over": True}
                return
            answer: object = {}
            with suppress(ValueError):  # words of Python itself, which could not start it
                answer = json.loads(line or "{}")
            yield answer if isinstance(answer, dict) else {}

    def _heard(self, delivery: Delivery) -> None:
        with suppress(ValueError):
            self._waiting.remove((delivery.target, delivery.title))
        self._deliveries.append(delivery)

    def _taken(self) -> list[Delivery]:
        found, self._deliveries = self._deliveries, []
        return found


def concerns(message: Message, target: Recipient) -> bool:
    """Whether the target wants to be told."""
    return message.kind in target.kinds and bool(message.events & set(target.on))


def _sent(message: Message, names: Sequence[str]) -> dict[str, Any]:
    return {
        "to": names,
        "title": message.title,
        "text": message.text,
        "markdown": message.markdown,
        "html": message.html,
        "severity": message.severity,
    }
