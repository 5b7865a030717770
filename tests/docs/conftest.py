"""Pages are followed as by a user: in a folder of their own, with nothing inherited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood
from tests.conftest import USUAL
from tests.docs.platforms import platform


@pytest.fixture(scope="session")
def platform_server() -> Iterator[EmbeddedServer]:
    """A server whose role ``postgres`` is no superuser, as on hosted platforms."""
    server = platform(USUAL)
    yield server
    server.close()
