"""The commands of docs/checking.md do what it says: each one is run, in its order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from lastgood.checklist import ITEMS
from tests.cli.conftest import Lastgood
from tests.cli.page import blocks, commands

PAGE = Path(__file__).parents[2] / "docs" / "checking.md"


def test_each_command_of_the_page(lastgood: Lastgood, database: str) -> None:
    assert lastgood("backup", "--quiet").status == 0
    (block,) = blocks("checking", "sh")
    lines = commands(block)
    assert len(lines) == 8
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "lastgood"
        outcome = lastgood(*arguments)
        assert outcome.status == 0, f"{line}: {outcome.err}"
        if "--json" not in arguments:
            assert "GO WITH WARNINGS: " in outcome.out, line


def test_the_page_has_every_item() -> None:
    found = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == [item.name for item in ITEMS]
