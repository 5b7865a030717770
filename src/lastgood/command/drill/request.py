"""The request of a drill."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lastgood.config.tables import Validate
from lastgood.plan.plan import Request
from lastgood.postgres.server import Target


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """The request of a drill. ``live`` names the live database, which is not touched, the store, the state folder and
    the restore point.

    ``server``: an existing scratch server to use. ``folder``: the data folder of a created one. ``validation``: the
    rules for the restored data. ``signed_off_by``: who signs off the evidence."""

    live: Request
    server: Target | None = None
    folder: Path | None = None
    validation: Validate = field(default_factory=Validate)
    signed_off_by: str | None = None
