"""The commands of docs/recovering.md do what it says: each one is run, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from lastgood.config import file
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood

PAGE = Path(__file__).parents[2] / "docs" / "recovering.md"


def test_each_command_of_the_page(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lastgood("backup").status == 0
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.partition("#")[0].strip() for line in block.splitlines()]
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
    (block,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    path = tmp_path / "lastgood.toml"
    path.write_text(block, encoding="utf-8")
    found = file.read(path)
    assert (found.problems, found.tables.recover.platform) == ((), "supabase")
