"""The places that records are read from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lastgood.config.settings import Settings
from lastgood.config.tables import Tables
from lastgood.postgres.server import Target


@dataclass(frozen=True, slots=True)
class Inquiry:
    """The folders and the server to read from. ``target`` is None if no server is to be queried."""

    state: Path
    store: Path
    tables: Tables
    target: Target | None

    @classmethod
    def of(cls, settings: Settings, target: Target) -> Inquiry:
        """Return the places that the settings of a command name."""
        return cls(settings.state, settings.store, settings.tables, target)
