"""The servers that everything else is tested on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lastgood.postgres.embedded import EmbeddedServer


@pytest.mark.postgres(15, 16, 17, 18)
def test_each_version_starts_and_answers(server: EmbeddedServer, new_database: Callable[..., str]) -> None:
    name = new_database()
    with server.target(name).connect() as connection:
        (version,) = connection.execute("SELECT current_setting('server_version_num')::int / 10000").fetchone() or (0,)
    assert version == server.major
