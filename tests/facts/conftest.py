"""Databases made from a few statements, and their facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from psycopg import sql

from lastgood.facts import Facts
from lastgood.facts.of_database import facts_of_database
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection, Target


@contextmanager
def snapshot(target: Target) -> Iterator[Connection]:
    """A connection in a REPEATABLE READ READ ONLY transaction."""
    with target.connect() as connection:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield connection
        connection.execute("ROLLBACK")


def facts(
    target: Target,
    like: Facts | None = None,
    *,
    beyond_like: bool = False,
    digests: bool = True,
    objects: bool = True,
) -> Facts:
    """The facts of a database, in a transaction of their own."""
    with snapshot(target) as connection:
        return facts_of_database(connection, like=like, beyond_like=beyond_like, digests=digests, objects=objects)


@pytest.fixture
def database(server: EmbeddedServer, new_database: Callable[..., str]) -> Callable[..., Target]:
    """Makes a database out of SQL text, run with ``search_path`` public."""

    def make(*statements: str) -> Target:
        target = server.target(new_database())
        with target.connect() as connection:
            connection.execute("SET search_path = public")
            for statement in statements:
                connection.execute(sql.SQL(statement))
        return target

    return make
