"""Whether a command line in a page or a message is valid."""

from __future__ import annotations

import shlex
from typing import Any

import typer

from lastgood.cli.application import app

ROOT: Any = typer.main.get_command(app)


def wrong(line: str) -> str:
    """What is wrong with ``lastgood COMMAND …``: a command or an option that does not exist; "" when nothing is."""
    program, *words = shlex.split(line, comments=True)
    assert program == "lastgood", line
    found = ROOT
    while words and not words[0].startswith("-") and hasattr(found, "commands"):
        name = words.pop(0)
        if name.isupper() or name == "…":
            return ""  # `lastgood COMMAND --help`
        if name not in found.commands:
            return f"no command {name!r}"
        found = found.commands[name]
    options = {spelling for each in (ROOT, found) for p in each.params for spelling in (*p.opts, *p.secondary_opts)}
    for word in words:
        if word == "--":
            break
        for each in word.split("|"):  # --quick|--full
            if each.startswith("-") and each != "-" and each.partition("=")[0] not in {*options, "--help", "-h"}:
                return f"no option {each}"
    return ""
