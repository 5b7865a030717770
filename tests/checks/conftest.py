"""A live database, the roles that work on it, and the checklist of both."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, Outcome
from tests.cli.conftest import child_environment as child_environment
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import lastgood as lastgood


@pytest.fixture
def new_role(server: EmbeddedServer) -> Iterator[Callable[[str], str]]:
    """Makes a role that may log in: ``new_role("CREATEDB")``. Databases that it owns must be gone before it is."""
    made: list[str] = []

    def make(attributes: str = "") -> str:
        name = f"check_{os.getpid()}_{len(made)}"
        with server.target("postgres").connect() as connection:
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN ").format(sql.Identifier(name)).as_bytes() + attributes.encode()
            )
        made.append(name)
        return name

    yield make
    with server.target("postgres").connect() as connection:
        for name in made:
            connection.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
            connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@dataclass(frozen=True)
class Stage:
    """A live database with 100 contacts, owned by ``owner``, and a restore point of it in the store "backups"."""

    server: EmbeddedServer
    live: str
    owner: str
    lastgood: Lastgood

    def execute(self, *statements: str) -> None:
        with self.server.target(self.live).connect() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def settings(self, text: str) -> None:
        Path("lastgood.toml").write_text(text, encoding="utf-8")

    def check(self, *arguments: str, user: str = "postgres") -> Outcome:
        return self.lastgood("check", "--json", "--db", self.server.url(self.live, user=user), *arguments)

    def item(self, name: str, *arguments: str, user: str = "postgres") -> dict[str, Any]:
        """One item of the checklist."""
        return item(self.check(*arguments, user=user), name)


def item(outcome: Outcome, name: str) -> dict[str, Any]:
    """One item of a checklist."""
    items: list[dict[str, Any]] = outcome.document["checklist"]["items"]
    (found,) = [each for each in items if each["name"] == name]
    return found


def lines_of(found: dict[str, Any], status: str) -> list[tuple[str, str, str]]:
    """The lines of an item that have a status: text, how it is known, hint."""
    return [(line["text"], line["known"], line["hint"]) for line in found["lines"] if line["status"] == status]


@pytest.fixture
def stage(
    server: EmbeddedServer, new_role: Callable[[str], str], new_database: Callable[..., str], lastgood: Lastgood
) -> Stage:
    owner, live = new_role("CREATEDB"), new_database("check")
    with server.target(live).connect() as connection:
        connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(live), sql.Identifier(owner)))
        connection.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO {}").format(sql.Identifier(owner)))
    with server.target(live, user=owner).connect() as connection:
        connection.execute("CREATE TABLE public.contacts AS SELECT i AS id FROM generate_series(1, 100) i")
    take(server.target(live), Path("backups"))
    return Stage(server, live, owner, lastgood)
