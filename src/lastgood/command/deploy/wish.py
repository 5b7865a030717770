"""What the user asked to deploy."""

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
    """``request`` names the live database, the store and the state, and has the options of its rollback. ``command`` is
    the migration: a program and its arguments. ``environment`` is the caller's. ``allow_errors``: why errors that the
    migration prints and ignores are accepted; empty: they are not."""

    request: Request
    command: tuple[str, ...] = field(repr=False)
    label: str = ""
    settings: Deploy = field(default_factory=Deploy)
    validation: Validate = field(default_factory=Validate)
    form: Form = "plain"
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    folder: Path | None = None
    allow_errors: str = ""
