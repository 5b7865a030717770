"""A live database that was drilled twice: once on a server made for it, once on one that was given."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from demo import crm
from lastgood.cli import main
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Outcome, nothing_inherited
from tests.docs.page import blocks

SCALE = 0.02


@dataclass(frozen=True)
class Drilled:
    """``first`` and ``second`` are their evidence; ``servers`` what was on the given server before and after."""

    folder: Path
    live: EmbeddedServer
    database: str
    given: EmbeddedServer
    first: dict[str, Any]
    second: dict[str, Any]
    before: list[tuple[Any, ...]]
    after: list[tuple[Any, ...]]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def lastgood(self, *arguments: str) -> Outcome:
        """Run it in the folder, for the live database."""
        with _standing_in(self.folder, self.live.url(self.database)):
            return call(*arguments)


def call(*arguments: str) -> Outcome:
    """Run lastgood in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(arguments)
    return Outcome(status, out.getvalue(), err.getvalue())


@contextmanager
def drilled(live: EmbeddedServer, given: EmbeddedServer, folder: Path) -> Iterator[Drilled]:
    """Create it, and remove the live database at the end."""
    name = f"crm_{os.getpid()}_drilled"
    with live.target("postgres").connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    try:
        with live.target(name).connect() as connection:
            crm.create(connection, SCALE)
        with _standing_in(folder, live.url(name)):
            assert call("backup", "--quiet").status == 0
            before = _everything(given)
            # The first two commands of the page.
            made, to_one_that_is_given = blocks("docs/drills.md")[0].calls()[:2]
            first = _passed(*made, "--json")
            words = [given.url("postgres") if "//" in word else word for word in to_one_that_is_given]
            second = _passed(*words, "--json")
            after = _everything(given)
        yield Drilled(folder, live, name, given, first, second, before, after)
    finally:
        with live.target("postgres").connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _passed(*arguments: str) -> dict[str, Any]:
    answer = call(*arguments)
    assert answer.status == 0, answer.out + answer.err
    return answer.document


def _everything(server: EmbeddedServer) -> list[tuple[Any, ...]]:
    """The databases and roles of a server."""
    with server.target("postgres").connect() as connection:
        return [
            *connection.execute("SELECT datname, oid FROM pg_database ORDER BY 1"),
            *connection.execute("SELECT rolname, oid FROM pg_roles ORDER BY 1"),
        ]


@contextmanager
def _standing_in(folder: Path, url: str) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        nothing_inherited(folder, patch)
        patch.setenv("LASTGOOD_DB", url)
        yield
