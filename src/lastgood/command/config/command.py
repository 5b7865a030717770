"""``lastgood config``: what one call would go by, and whether the file is right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command, group

if TYPE_CHECKING:
    from lastgood.cli.session import Session


def check(
    session: Session,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The file; the one that would be used.")] = None,
) -> None:
    """Say whether lastgood.toml is right, and where each value comes from.

    A key that is unknown, or a value that can't be, ends with 2 and says what was meant. Of the targets of
    [notifications] it says whether their addresses are there and make sense. Nothing is connected to or sent.
    """
    from lastgood.command.config import show as shown
    from lastgood.command.notify import show as shown_targets

    if file is not None:
        session.given["config"] = file
        session.settle()
    settings = session.settings
    told = session.news.look((), False)

    def show() -> None:
        shown.show(session.screen, settings)
        if told.targets:
            session.screen.heading("Who is told of runs")
            shown_targets.show(session.screen, told)

    session.result({**shown.document(settings, session.scrub), "notifications": told.document()["targets"]}, show)


group_ = group("config", "Check lastgood.toml, or print its JSON Schema. Without a command: check it.", check)
command("check", into=group_)(check)


@command("schema", into=group_)
def print_schema(session: Session) -> None:
    """Print the JSON Schema of lastgood.toml, for editors."""
    from lastgood.config.schema import schema

    session.screen.out.file.write(json.dumps(schema(), indent=2) + "\n")
