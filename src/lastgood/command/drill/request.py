"""What is asked of a drill."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lastgood.config.tables import Validate
from lastgood.plan.plan import Request
from lastgood.postgres.server import Target


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """``live`` names the live database, the store, the state folder and the restore point; nothing is done to it.

    ``server``: a scratch server, instead of one that is made. ``folder``: where that one's data lie. ``validation``:
    what the restored data must be. ``signed_off_by``: who answers for the evidence.
    """

    live: Request
    server: Target | None = None
    folder: Path | None = None
    validation: Validate = field(default_factory=Validate)
    signed_off_by: str | None = None
