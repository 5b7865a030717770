"""Running lastgood as a user does: in this process for speed, as a child where a terminal or a signal matters."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lastgood.cli import main
from lastgood.postgres.embedded import EmbeddedServer

SRC = Path(__file__).parents[2] / "src"


@dataclass(frozen=True)
class Outcome:
    """What a call of lastgood ended with."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The JSON document on stdout."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines on stderr."""
        return [json.loads(line) for line in self.err.splitlines()]


Lastgood = Callable[..., Outcome]


def nothing_inherited(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Works in ``folder``, with nothing in the environment that names a database."""
    for name in list(os.environ):
        if name.startswith(("PG", "LASTGOOD_")) or name in ("DATABASE_URL", "NO_COLOR"):
            patch.delenv(name)
    patch.setenv("LASTGOOD_STATE", str(folder / "state"))
    patch.chdir(folder)


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own to work in, and nothing inherited that names a database."""
    nothing_inherited(tmp_path, monkeypatch)


@pytest.fixture
def lastgood(capsys: pytest.CaptureFixture[str]) -> Lastgood:
    """Calls the command line: ``lastgood("status", "--json").document``."""

    def call(*arguments: str) -> Outcome:
        capsys.readouterr()
        status = main(arguments)
        output = capsys.readouterr()
        return Outcome(status, output.out, output.err)

    return call


def fill(server: EmbeddedServer, name: str) -> None:
    """3 contacts, 2 deals and a migrations table."""
    with server.target(name).connect() as connection:
        connection.execute("CREATE SCHEMA supabase_migrations")
        connection.execute("CREATE TABLE supabase_migrations.schema_migrations (version text PRIMARY KEY)")
        connection.execute("INSERT INTO supabase_migrations.schema_migrations VALUES ('20251101'), ('20251102')")
        connection.execute("CREATE TABLE public.contacts (id int PRIMARY KEY, name text, created_at timestamptz)")
        connection.execute(
            "INSERT INTO public.contacts"
            " VALUES (1, 'Ann', '2025-11-01'), (2, 'Bo', '2025-11-02'), (3, 'Cy', '2025-11-03')"
        )
        connection.execute("CREATE TABLE public.deals (id int PRIMARY KEY, contact int REFERENCES public.contacts)")
        connection.execute("INSERT INTO public.deals VALUES (1, 1), (2, 3)")


@pytest.fixture
def database(server: EmbeddedServer, new_database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A small live database that LASTGOOD_DB names: 3 contacts, 2 deals and a migrations table."""
    name = new_database("crm")
    fill(server, name)
    monkeypatch.setenv("LASTGOOD_DB", server.url(name))
    return name


def command(*arguments: str) -> list[str]:
    """The argument list that runs lastgood as a child."""
    return [sys.executable, "-m", "lastgood", *arguments]


@pytest.fixture
def child_environment() -> dict[str, str]:
    """The environment for a child: this one, with our sources first."""
    return {**os.environ, "PYTHONPATH": str(SRC)}
