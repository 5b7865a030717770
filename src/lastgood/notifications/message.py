"""What is told, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.config.tables.notifying import Event, Kind


@dataclass(frozen=True, slots=True)
class Message:
    """One message. ``events``: it goes to everybody who is told of one of them, and of ``kind``.
    ``text``, ``markdown`` and ``html`` say the same, the title is plain text."""

    events: frozenset[Event]
    kind: Kind
    title: str
    text: str
    markdown: str
    html: str

    @property
    def severity(self) -> str:
        """In Apprise's words: what a pager goes by."""
        if "failure" in self.events:
            return "failure"
        return "warning" if "undo" in self.events else "success" if "success" in self.events else "info"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one message to one target: ``problem`` is empty when it was accepted."""

    target: str
    title: str
    seconds: float
    problem: str = ""
