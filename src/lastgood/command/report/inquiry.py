"""Where records are looked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lastgood.config.settings import Settings
from lastgood.config.tables import Tables
from lastgood.postgres.server import Target


@dataclass(frozen=True, slots=True)
class Inquiry:
    """Where to look. ``target`` is None where the server is not to be asked."""

    state: Path
    store: Path
    tables: Tables
    target: Target | None

    @classmethod
    def of(cls, settings: Settings, target: Target) -> Inquiry:
        """Those of one command."""
        return cls(settings.state, settings.store, settings.tables, target)
