"""The commands of docs/application.md do what it says, with the configuration that it shows."""

from __future__ import annotations

import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from lastgood.config.tables import Tables
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.page import blocks, commands
from tests.mission.site import Site
from tests.mission.site import site as site

PROGRAM = """#!{python}
import pathlib, sys
with open("calls", "a") as log:
    print(pathlib.Path(sys.argv[0]).name, *sys.argv[1:], file=log)
"""
STOPPED = ["maintenance on", "workers stop"]
STARTED = ["workers start", "maintenance off"]


def test_each_command_of_the_page(
    lastgood: Lastgood, server: EmbeddedServer, database: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lastgood("backup").status == 0
    with server.target(database).connect() as connection:
        connection.execute("DELETE FROM public.deals")
    (settings,) = blocks("application", "toml")
    shown = tomllib.loads(settings)
    hooks = Tables.model_validate({name: shown[name] for name in ("hooks", "health", "watch")}).hooks
    Path("ops").mkdir()
    for command in {hooks.maintenance_on, hooks.stop, hooks.start, hooks.maintenance_off, hooks.smoke}:
        assert command is not None
        Path(command[0]).write_text(PROGRAM.format(python=sys.executable))
        Path(command[0]).chmod(0o755)
    text = settings.replace("http://127.0.0.1:8000", site.url).replace('length = "60s"', 'length = "1s"')
    Path("lastgood.toml").write_text(text)
    monkeypatch.setenv("HEALTH_AUTH", "Bearer of-the-page")
    (block,) = blocks("application", "sh")
    lines = commands(block)
    around = [*STOPPED, *STARTED, "smoke-test"]
    expected = [[], around, [], around, STOPPED, [], STARTED]
    assert len(lines) == len(expected)
    for line, calls in zip(lines, expected, strict=True):
        Path("calls").write_text("")
        program, *arguments = shlex.split(line)
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.err}"
        assert Path("calls").read_text().splitlines() == calls, line
    assert site.asked[-1] == ("/health", "Bearer of-the-page")
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.deals").fetchone() == (2,)
