from __future__ import annotations

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.repairs.stage import New, Stage


@pytest.fixture
def stage(server: EmbeddedServer, new_database: New) -> Stage:
    return Stage(server, new_database("app"))
