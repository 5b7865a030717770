"""The address of a target, the message sent to it, and the result of its delivery.

The address is read from its variable or its file when it is needed, and never shown.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lastgood.config.tables.application import Event, Kind, Recipient
from lastgood.errors import os_reason

MOST_BYTES = 1 << 16
_ONE_LINE = "Name a file that holds the address in one line."


class NoAddress(Exception):
    """The address of a target is missing or unusable; the text never quotes it. ``hint`` is the remedy."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a target. ``url`` holds tokens, and is not part of ``repr``."""

    target: Recipient
    url: str = field(repr=False)


def address_of(target: Recipient, environment: Mapping[str, str] = os.environ) -> Address:
    """Read the address. Raises NoAddress when there is none, or when others may read the file."""
    if target.url_variable is not None:
        url = environment.get(target.url_variable, "").strip()
        if not url:
            raise NoAddress(
                f'variable "{target.url_variable}" is not set',
                f"Set {target.url_variable} to the address; https://appriseit.com/services/ shows the forms.",
            )
    else:
        assert target.url_file is not None, "the table has one of the two"
        url = _in_file(target.url_file)
    if len(url.split()) != 1 or not url.isprintable():
        raise NoAddress(
            "the address has more than one line, or contains spaces",
            "Give one address per target; write a space in it as %20.",
        )
    return Address(target, url)


def _in_file(path: Path) -> str:
    if path.is_dir():
        raise NoAddress(f'"{path}" is not a file', _ONE_LINE)
    try:
        # Check the open file, not the name, which may change meanwhile; a pipe must not block the open.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise NoAddress(f'"{path}" is not a file', _ONE_LINE)
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise NoAddress(f'other users may read "{path}", and addresses hold tokens', f"Run: chmod 600 {path}")
            if status.st_uid not in (os.geteuid(), 0):
                raise NoAddress(
                    f'"{path}" belongs to another user', f"Check its content, then run: sudo chown $(id -un) {path}"
                )
            content = file.read(MOST_BYTES)
    except OSError as error:
        why = os_reason(error)
        raise NoAddress(
            f'cannot read "{path}": {why}', "Put the address there, in one line that only you may read (chmod 600)."
        ) from None
    lines = [line.strip() for line in content.decode("utf-8", "replace").splitlines()]
    addresses = [line for line in lines if line and not line.startswith("#")]
    if not addresses:
        raise NoAddress(f'"{path}" is empty', "Put the address there, in one line.")
    return "\n".join(addresses)


@dataclass(frozen=True, slots=True)
class Message:
    """One message, for every target that receives one of ``events`` and ``kind``. ``text``, ``markdown`` and ``html``
    have the same content; the title is plain text."""

    events: frozenset[Event]
    kind: Kind
    title: str
    text: str
    markdown: str
    html: str

    @property
    def severity(self) -> str:
        """The severity in Apprise's terms, which pagers use."""
        if "failure" in self.events:
            return "failure"
        return "warning" if "undo" in self.events else "success" if "success" in self.events else "info"


@dataclass(frozen=True, slots=True)
class Delivery:
    """The result of one message to one target: ``problem`` is empty when it was accepted."""

    target: str
    title: str
    seconds: float
    problem: str = ""
