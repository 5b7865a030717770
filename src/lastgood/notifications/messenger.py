"""The control of the program that sends notifications: it is started with the first message, and its results are read
at the end. Nothing here waits before the end, and nothing raises."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from lastgood.config.tables.application import Recipient
from lastgood.notifications.address import Address, Delivery, Message
from lastgood.process.companion import Companion, companion, import_path

PROGRAM = Path(__file__).with_name("sender.py")
# The time that the program needs to exit when its limit is reached.
GRACE_SECONDS = 1.0
READ_SECONDS = 0.25
# A shorter wait needs no explanation.
SILENT_SECONDS = 1.0
EXITED = "the program that sends messages has ended"


class Messenger:
    """The sender of messages to ``addresses``. ``limit``: the time limit of one message, and of the wait in
    ``finish``."""

    def __init__(self, addresses: Sequence[Address], limit: float) -> None:
        self._addresses = addresses
        self._limit = limit
        self._stack = ExitStack()
        self._companion: Companion | None = None
        self._broken = ""
        self._waiting: list[tuple[str, str]] = []
        self._deliveries: list[Delivery] = []

    def send(self, message: Message, *, only: str | None = None) -> None:
        """Begin to send the message to all targets that receive it, or to ``only`` one."""
        names = self._concerned(message) if only is None else [only]
        if names and self._started():
            self._waiting += [(name, message.title) for name in names]
            self._send({"message": _fields(message, names)})
        elif names:
            self._deliveries += [Delivery(name, message.title, 0.0, self._broken) for name in names]

    def set_will(self, message: Message | None) -> None:
        """Set the message to send if lastgood is killed; None removes it."""
        names = self._concerned(message) if message is not None else []
        if names and message is not None:
            if self._started():
                self._send({"will": _fields(message, names)})
        elif self._companion is not None:
            self._send({"will": None})

    def problems(self) -> dict[str, str]:
        """The faults of addresses that are visible without sending, by the names of the targets."""
        if not self._addresses:
            return {}
        if not self._started():
            return {each.target.name: self._broken for each in self._addresses}
        for answer in self._answers(time.monotonic() + self._limit + GRACE_SECONDS):
            if "problems" in answer:
                problems: dict[str, str] = answer["problems"]
                return problems
        return {each.target.name: EXITED for each in self._addresses}

    def finish(self, waiting: Callable[[], None] = lambda: None) -> list[Delivery]:
        """Wait until all messages are sent, at most for the time limit of one message; return the result of each
        message. Ctrl+C ends the wait, but not the program's attempts. ``waiting`` is called once if the wait takes
        longer than a second."""
        if self._companion is None:
            return self._taken()
        self._send({"over": self._limit})
        began, announced = time.monotonic(), False
        late = f"the message was not accepted within {self._limit:g} s"
        try:
            for answer in self._answers(began + self._limit + GRACE_SECONDS):
                if not announced and time.monotonic() - began > SILENT_SECONDS:
                    announced = True
                    waiting()
                if "target" in answer:
                    self._add(Delivery(**answer))
                elif answer.get("over"):
                    late = EXITED
                    break
        except KeyboardInterrupt:
            late = "the message was not yet accepted when Ctrl+C ended the wait"
        seconds = round(time.monotonic() - began, 3)
        self._deliveries += [Delivery(name, title, seconds, late) for name, title in self._waiting]
        self._waiting.clear()
        self._companion = None
        with suppress(KeyboardInterrupt):
            self._stack.close()
        return self._taken()

    def _concerned(self, message: Message) -> list[str]:
        return [each.target.name for each in self._addresses if receives(message, each.target)]

    def _started(self) -> bool:
        if self._companion is None and not self._broken:
            # -P: the names in the program's folder are too common to be importable modules.
            arguments: list[str | Path] = [sys.executable, "-P", PROGRAM]
            try:
                self._companion = self._stack.enter_context(
                    companion(arguments, environment=import_path(), seconds=GRACE_SECONDS)
                )
            except OSError as error:
                self._broken = f"cannot start the program that sends messages: {error.strerror or error}"
                return False
            self._send({"targets": {each.target.name: each.url for each in self._addresses}, "limit": self._limit})
        return self._companion is not None

    def _send(self, order: dict[str, Any]) -> None:
        assert self._companion is not None
        with suppress(OSError):  # it has ended: the results at the end show it
            self._companion.write(json.dumps(order))

    def _answers(self, deadline: float) -> Iterator[dict[str, Any]]:
        assert self._companion is not None
        while time.monotonic() < deadline:
            line = self._companion.read(READ_SECONDS)
            if line == "":
                yield {"over": True}
                return
            answer: object = {}
            with suppress(ValueError):  # messages of Python itself, which could not start the program
                answer = json.loads(line or "{}")
            yield answer if isinstance(answer, dict) else {}

    def _add(self, delivery: Delivery) -> None:
        with suppress(ValueError):
            self._waiting.remove((delivery.target, delivery.title))
        self._deliveries.append(delivery)

    def _taken(self) -> list[Delivery]:
        deliveries, self._deliveries = self._deliveries, []
        return deliveries


def receives(message: Message, target: Recipient) -> bool:
    """Whether the target receives this message."""
    return message.kind in target.kinds and bool(message.events & set(target.on))


def _fields(message: Message, names: Sequence[str]) -> dict[str, Any]:
    return {
        "to": names,
        "title": message.title,
        "text": message.text,
        "markdown": message.markdown,
        "html": message.html,
        "severity": message.severity,
    }
