"""The manual page ``lastgood(1)``, made from the declarations of the commands; ``tools.reference`` writes it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

import typer

from lastgood import __version__, config
from lastgood.cli.application import MEANINGS, app
from lastgood.cli.commands import COMMANDS
from lastgood.cli.examples import EXAMPLES

PAGE = Path(__file__).parents[1] / "man" / "lastgood.1"


def _text(text: str) -> str:
    """Escape what roff would interpret: backslashes, hyphens that are to be copied, a dot at the start of a line."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("`", "")
    return re.sub(r"(?m)^(['.])", r"\\&\1", escaped)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in inspect.cleandoc(text).replace("\b", "").split("\n\n"):
        yield _text(paragraph)


def page() -> str:
    """Return the page in the man macros of roff."""
    root: Any = typer.main.get_command(app)
    lines = [
        f'.TH LASTGOOD 1 "" "lastgood {__version__}" "User Commands"',
        ".SH NAME",
        r"lastgood \- roll a PostgreSQL database back to its last good state",
        ".SH SYNOPSIS",
        r".B lastgood",
        r"[\fIOPTION\fR]... \fICOMMAND\fR [\fIARGUMENT\fR]...",
        ".SH DESCRIPTION",
        _text(
            "lastgood restores a backup into a second database next to the live one, verifies every row, and switches "
            "the two names in milliseconds. The live database is not touched before the switch, and lastgood undo "
            "switches back."
        ),
        ".PP",
        _text("In an emergency: lastgood recover. It asks before it changes anything."),
    ]
    for title, commands in groupby(COMMANDS, key=attrgetter("group")):
        lines.append(f".SH COMMANDS: {str(title).upper()}")
        for each in commands:
            for name, command in _leaves(root.commands[each.name], each.name):
                lines += _command(name, command)
    lines += [".SH OPTIONS", _text("They may stand before and after the name of the command.")]
    for option in config.OPTIONS:
        if option.is_global:
            metavar = f" \\fI{option.metavar}\\fR" if option.metavar else ""
            lines += [".TP", f"\\fB{_text(', '.join(option.flags))}\\fR{metavar}", _text(option.doc)]
    lines.append(".SH EXIT STATUS")
    for status, meaning in sorted(MEANINGS.items()):
        lines += [".TP", rf"\fB{status}\fR", _text(meaning)]
    lines.append(".SH ENVIRONMENT")
    for option in config.OPTIONS:
        for variable in option.environment:
            lines += [".TP", rf"\fB{variable}\fR", _text(f"The value of {option.flags[0]}.")]
    lines += [
        ".SH FILES",
        ".TP",
        rf"\fB{config.FILE_NAME}\fR",
        _text("The configuration, in the current folder or one above it. lastgood config example shows every key."),
        ".TP",
        r"\fB~/.pgpass\fR",
        _text("The passwords, as for psql."),
        ".SH SEE ALSO",
        r"\fBpg_dump\fR(1), \fBpg_restore\fR(1), \fBpsql\fR(1)",
    ]
    return "\n".join(lines) + "\n"


def _leaves(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        yield name, command
        return
    for each in command.list_commands(None):
        yield from _leaves(command.commands[each], f"{name} {each}")


def _command(name: str, command: Any) -> Iterator[str]:
    own = {each.flags[0] for each in config.OPTIONS if each.is_global} | {"--help"}
    parameters = [each for each in command.params if not set(each.opts) & own]
    arguments = [str(each.metavar or "") for each in parameters if each.param_type_name == "argument"]
    yield f".SS lastgood {_text(' '.join([name, *arguments]))}"
    first, *others = _paragraphs(command.help or "")
    yield first
    for paragraph in others:
        yield from (".PP", paragraph)
    for each in parameters:
        spelling = _text(", ".join((*each.opts, *each.secondary_opts)))
        if each.param_type_name == "argument":
            spelling = str(each.metavar or each.name.upper())
        metavar = f" \\fI{each.metavar}\\fR" if each.param_type_name == "option" and each.metavar else ""
        yield from (".TP", f"\\fB{spelling}\\fR{metavar}", _text(getattr(each, "help", "") or ""))
    yield from (".PP", ".nf")
    for shown, meaning in EXAMPLES.get(name, ()):
        yield _text(f"lastgood {shown}    # {meaning}")
    yield ".fi"


def write(path: Path = PAGE) -> None:
    """Write the page to ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(), encoding="utf-8")
