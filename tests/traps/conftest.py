"""What every trap starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.traps.stage import Stage


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path) -> Stage:
    return Stage.made(server, new_database("crm"), tmp_path / "backups" / "migrations", tmp_path / "state")


@pytest.fixture
def empty_database(new_database: Callable[..., str]) -> str:
    """A database with nothing in it, on the same server."""
    return new_database("empty")
