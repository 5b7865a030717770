"""What every trap starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from demo import crm, evidence, naive
from demo.command import Lastgood
from lastgood.postgres.embedded import EmbeddedServer
from tests.traps.stage import SCALE, Stage


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path) -> Stage:
    name = new_database("crm")
    backups = tmp_path / "backups" / "migrations"
    backups.mkdir(parents=True)
    with server.target(name).connect() as connection:
        size = crm.create(connection, SCALE)
        before = evidence.take(connection)
    dump = backups / "cloud_backup_20260112_093000.sql"
    naive.backup(server.bin, server.url(name), dump)
    command = Lastgood(server.url(name), store=backups, state=tmp_path / "state")
    return Stage(server, name, size, before, dump, backups, command)


@pytest.fixture
def empty_database(new_database: Callable[..., str]) -> str:
    """A database with nothing in it, on the same server."""
    return new_database("empty")
