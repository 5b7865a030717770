"""``lastgood help``."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lastgood.cli.application import MEANINGS, app, command
from lastgood.cli.commands import ORDER
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session

STATUSES = "exit-status"


def _topics(incomplete: str) -> list[str]:
    return [name for name in (*ORDER, STATUSES) if name.startswith(incomplete)]


@command("help")
def help_(
    session: Session,
    topic: Annotated[
        list[str] | None,
        typer.Argument(metavar="TOPIC", help="A command, or exit-status.", autocompletion=_topics),
    ] = None,
) -> None:
    """Show the help of a command, or what exit statuses mean.

    Without a topic it lists all commands. With exit-status it shows what each status of each command means.
    """
    if topic == [STATUSES]:
        typer.echo("\n".join(f"{status:>3}  {meaning}" for status, meaning in sorted(MEANINGS.items())))
    else:
        typer.echo(_help(topic or []))


def _help(words: list[str]) -> str:
    found: Any = typer.main.get_command(app)
    context = found.make_context("lastgood", [], resilient_parsing=True)
    for word in words:
        found = found.get_command(context, word) if hasattr(found, "get_command") else None
        if found is None:
            names = [*ORDER, STATUSES]
            close = [each for each in names if each.startswith(word)] or difflib.get_close_matches(word, names, 1)
            near = (f"Did you mean {each}? " for each in close[:1])
            raise UsageError(
                f'cannot show help: no such command "{" ".join(words)}"',
                hint=f"{''.join(near)}`lastgood help` lists the commands.",
                state="Nothing was read or changed.",
            )
        context = found.make_context(word, [], parent=context, resilient_parsing=True)
    return str(found.get_help(context))
