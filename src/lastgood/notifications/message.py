"""Messages and the results of their delivery."""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.config.tables.notifying import Event, Kind


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
