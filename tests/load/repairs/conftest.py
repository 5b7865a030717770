from __future__ import annotations

from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.load.repairs.stage import New, Stage


@pytest.fixture
def stage(server: EmbeddedServer, new_database: New, tmp_path: Path) -> Stage:
    return Stage(server, new_database("app"), tmp_path)
