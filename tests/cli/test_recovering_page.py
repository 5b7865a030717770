"""The commands of docs/recovering.md do what it says: each one is run, in its order."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from lastgood.config import file
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.page import blocks, commands


def test_each_command_of_the_page(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lastgood("backup").status == 0
    (block,) = blocks("recovering", "sh")
    lines = commands(block)
    assert len(lines) == 5
    for line in lines:
        with server.target(database).connect() as connection:
            connection.execute("DELETE FROM public.deals")
        program, *arguments = shlex.split(line)
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.err}"
        with server.target(database).connect() as connection:
            deals = connection.execute("SELECT count(*) FROM public.deals").fetchone()
        assert deals == ((2,) if "--yes" in arguments else (0,))


def test_its_configuration_is_valid(tmp_path: Path) -> None:
    (block,) = blocks("recovering", "toml")
    path = tmp_path / "lastgood.toml"
    path.write_text(block, encoding="utf-8")
    found = file.read(path)
    assert (found.problems, found.tables.recover.platform) == ((), "supabase")
