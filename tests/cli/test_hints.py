"""Every command in a message exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import lastgood
from tests.cli.test_help import COMMANDS

SOURCES = Path(lastgood.__file__).parent
ADVICE = re.compile(r"(?:\b[Rr]un:? |\b[Ll]ook at |\bpoint:? |(?<!`)`)lastgood ([a-z]+)")


def texts() -> Iterator[tuple[str, str]]:
    """File and text of each string in the sources, docstrings and literals alike."""
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield str(file.relative_to(SOURCES)), node.value


def test_advice_names_commands_that_exist() -> None:
    found = [(file, name) for file, text in texts() for name in ADVICE.findall(text)]
    assert len(found) > 30
    assert [(file, name) for file, name in found if name not in COMMANDS and name != "COMMAND"] == []
