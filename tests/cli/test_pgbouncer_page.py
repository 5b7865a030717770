"""The settings and commands of docs/pgbouncer.md do what it says: each one is used, in its order."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.page import blocks, commands
from tests.pooler import PgBouncer


def test_each_setting_and_command_of_the_page(
    lastgood: Lastgood,
    server: EmbeddedServer,
    database: str,
    store: Path,
    new_pooler: Callable[..., PgBouncer],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (ini,) = blocks("pgbouncer", "ini")
    settings = dict(line.split(" = ") for line in ini.splitlines())
    pooler = new_pooler({"app": f"host={server.folder} port=5432 dbname={database}"}, ("postgres",), **settings)
    (toml,) = blocks("pgbouncer", "toml")
    (tmp_path / "lastgood.toml").write_text(toml.replace("127.0.0.1", str(pooler.folder)))
    monkeypatch.setenv("LASTGOOD_STORE", str(store))
    assert lastgood("backup").status == 0
    monkeypatch.setenv("PATH", str(server.bin), prepend=":")
    use, mend = blocks("pgbouncer", "sh")
    lines = [line.replace("127.0.0.1", str(pooler.folder)) for line in commands(use)]
    assert len(lines) == 6
    said = {}
    for line in lines:
        program, *arguments = shlex.split(line)
        if program == "psql":
            subprocess.run([program, "-X", *arguments], check=True, capture_output=True)
            continue
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.err}"
        said[line] = outcome.out
    plan, done, undone = (said[lines[number]] for number in (2, 3, 5))
    assert re.search(r'Held back +clients of "app" of PgBouncer', plan), plan
    assert "caution" not in plan
    for text in (done, undone):
        assert re.search(r'Held back +clients of PgBouncer \("app"\), for \d+ ms; none lost a query', text), text
    pooler.ask("PAUSE app")
    outcome = lastgood("status")
    assert outcome.status == 7
    (line,) = [text.strip().replace("127.0.0.1", str(pooler.folder)) for text in mend.splitlines()]
    assert 'PgBouncer HOLDS BACK the clients of "app": 0 queries wait. To let them go on:' in outcome.out
    assert 'RESUME "app"' in outcome.out
    subprocess.run(shlex.split(line), check=True, capture_output=True)
    assert lastgood("status").status == 0
    assert pooler.paused() == set()
