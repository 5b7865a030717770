"""``lastgood config``: the effective settings, whether the file is valid, and an example."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command, group
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session


def check(
    session: Session,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The file; by default the one in effect.")] = None,
) -> None:
    """Validate lastgood.toml, and show where each value comes from.

    An unknown key or an invalid value exits with 2 and suggests a correction. For the targets in [notifications], it
    checks that their addresses exist and are valid. It opens no connection and sends nothing.
    """
    from lastgood.command.config import show as shown
    from lastgood.command.notify import show as shown_targets

    if file is not None:
        session.given["config"] = file
        session.settle()
    settings = session.settings
    notified = session.news.check((), False)

    def show() -> None:
        shown.show(session.screen, settings)
        if notified.targets:
            session.screen.heading("Notification targets")
            shown_targets.show(session.screen, notified)

    session.result({**shown.document(settings, session.scrub), "notifications": notified.document()["targets"]}, show)


group_ = group(
    "config", "Check lastgood.toml, print an example or its JSON Schema. Without a command: check it.", check
)
command("check", into=group_)(check)


@command("example", into=group_)
def print_example(
    session: Session,
    table: Annotated[
        str | None,
        typer.Argument(metavar="TABLE", help="Only this table, ready to be edited."),
    ] = None,
) -> None:
    """Print an example of lastgood.toml: every key and table, with a realistic value.

    The whole example is commented out, because a key that is there has an effect.
    """
    from lastgood.config import example

    lines = list(example.commented()) if table is None else example.of_table(table)
    if not lines:
        raise UsageError(
            f'cannot print an example: there is no table "{table}"',
            hint="List them: lastgood config example",
            state=config.NOTHING_READ,
        )
    session.screen.out.file.write("\n".join(lines) + "\n")


@command("schema", into=group_)
def print_schema(session: Session) -> None:
    """Print the JSON Schema of lastgood.toml, for editors."""
    from lastgood.config.file import schema

    session.screen.out.file.write(json.dumps(schema(), indent=2) + "\n")
