"""The commands of docs/guide.md do what it says: each one is run, in its order."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.cli.conftest import Lastgood
from tests.cli.page import blocks, commands


def test_each_command_of_the_page(lastgood: Lastgood, database: str) -> None:
    assert lastgood("backup").status == 0
    (settings,) = blocks("guide", "toml")
    Path("lastgood.toml").write_text(settings)
    Path("docs").mkdir()
    Path("README.md").write_text("# CRM\n")
    (block,) = blocks("guide", "sh")
    lines = commands(block)
    assert len(lines) == 5
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.err}"
    written = Path("manual-rollback-procedure.md").read_text()
    assert "| Owner | the platform team |" in written
    assert "- [Incident process](<https://wiki.example.org/incidents>)" in written
    assert Path("manual-rollback-procedure.html").read_text().startswith("<!doctype html>")
    assert "OTHER_POINT" in Path("docs/rollback.md").read_text()
    assert "(manual-rollback-procedure.md#troubleshooting)" in Path("README.md").read_text()
    assert lastgood("guide", "--output", "-").out.startswith("# Rollback by hand: `crm")
