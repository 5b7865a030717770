"""The stage of most pages of the documentation, and what the others are made of: a small live database with a restore
point, then a deployment that deleted all deals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection
from tests.cli.conftest import Lastgood, Outcome, fill
from tests.docs.page import Block, Command
from tests.docs.shell import Shell

LIVE = "crm"


@dataclass
class Here:
    """What a stage is built with."""

    server: EmbeddedServer
    lastgood: Lastgood
    shell: Shell
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    request: pytest.FixtureRequest


class Stage:
    """The stage of most pages, and what the others change."""

    backup = True
    # Commands of pages that a test cannot run, and why; by their beginning.
    not_run: ClassVar[dict[str, str]] = {}

    def __init__(self, here: Here) -> None:
        self.here = here
        self.server, self.lastgood, self.shell = here.server, here.lastgood, here.shell
        self.live, self.superuser = LIVE, "postgres"

    # What a page's stage may change.

    def prepare(self) -> None:
        """Before the first command. The folder is empty."""
        small(self.server, self.live)
        self.use(self.server.url(self.live))
        if self.backup:
            assert self.lastgood("backup", "--quiet").status == 0
            self.execute("DELETE FROM public.deals")

    def content(self, block: Block) -> str:
        """What is written into a file that the page shows."""
        return self.shell.substituted(block.text)

    def before(self, command: Command) -> None:
        """Before each command."""

    def after(self, command: Command, outcome: Outcome) -> None:
        """Called after each command, which ended as expected."""

    def finish(self) -> None:
        """After the last command."""

    # What they are made of.

    def use(self, url: str) -> None:
        """The database that commands meet when they name none."""
        self.here.monkeypatch.setenv("LASTGOOD_DB", url)

    def connect(self, database: str | None = None) -> Connection:
        return self.server.target(database or self.live).connect()

    def execute(self, statement: str, database: str | None = None) -> None:
        with self.connect(database) as connection:
            connection.execute(statement.encode())

    def value(self, query: str, database: str | None = None) -> object:
        with self.connect(database) as connection:
            return (connection.execute(query.encode()).fetchone() or (None,))[0]

    def deals(self) -> object:
        return self.value("SELECT count(*) FROM public.deals")


def small(server: EmbeddedServer, name: str) -> None:
    """A live database: 3 contacts, 2 deals and a migrations table."""
    create(server, name)
    fill(server, name)


def create(server: EmbeddedServer, name: str, owner: str = "postgres") -> None:
    with server.target("template1").connect() as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE template0 OWNER {}").format(
                sql.Identifier(name), sql.Identifier(owner)
            )
        )


@contextmanager
def cleared(stage: Stage) -> Iterator[None]:
    """Drops the databases that are made in a ``with`` block."""
    server = stage.server.target("template1", user=stage.superuser)
    with server.connect() as connection:
        before = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
    try:
        yield
    finally:
        with server.connect() as connection:
            for (name,) in connection.execute("SELECT datname FROM pg_database").fetchall():
                if name not in before:
                    connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
