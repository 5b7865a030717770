"""The survey of a database; a pooler in between is detected."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from lastgood.command.init.survey import survey
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from tests.support.pooler import PORT, PgBouncer


@pytest.mark.postgres(15, 16, 17, 18)
@pytest.mark.parametrize(("mode", "shares"), [("transaction", True), ("session", False)])
def test_a_transaction_pooler_in_between_is_noticed(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    new_pooler: Callable[..., PgBouncer],
    mode: str,
    shares: bool,
) -> None:
    live = new_database()
    pooler = new_pooler({live: f"host={server.folder} port=5432"}, ("postgres",), pool_mode=mode)
    found = survey(Target.parse(f"host={pooler.folder} port={PORT} user=postgres dbname={live}"))
    obstacle = (
        "This connection goes through a transaction pooler. Connect to the server directly, or to the pooler's session "
        "port."
    )
    assert (found.pooled, found.obstacles) == (shares, (obstacle,) if shares else ())
