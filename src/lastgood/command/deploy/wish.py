"""The request of a deployment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lastgood.config.tables import Deploy, Validate
from lastgood.plan.plan import Request
from lastgood.points.manifest import Form


@dataclass(frozen=True, slots=True)
class Wish:
    """The request of a deployment. ``request``: the live database, the store, the state folder, and the options of its
    rollback. ``command``: the migration, a program and its arguments. ``environment``: the caller's. ``allow_errors``:
    why errors that the migration prints but ignores are accepted; empty: they are not."""

    request: Request
    command: tuple[str, ...] = field(repr=False)
    label: str = ""
    settings: Deploy = field(default_factory=Deploy)
    validation: Validate = field(default_factory=Validate)
    form: Form = "plain"
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    folder: Path | None = None
    allow_errors: str = ""
