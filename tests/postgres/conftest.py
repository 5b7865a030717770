"""Fixtures of the tests of a server."""

from __future__ import annotations

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.postgres.made_roles import roles


@pytest.fixture
def no_other_roles(server: EmbeddedServer) -> None:
    """Runs that other tests killed on this server left their roles, whose databases are gone."""
    with server.target("postgres").connect() as connection:
        for name in roles(connection):
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
