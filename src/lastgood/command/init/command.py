"""``lastgood init``: inspect the database and write lastgood.toml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.errors import Refused, UsageError
from lastgood.process import durable
from lastgood.text.units import counted

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.command.init.survey import InitSurvey
    from lastgood.postgres.server import Target


@command("init", 3, 5)
def init(
    session: Session,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing lastgood.toml.")] = False,
) -> None:
    """Inspect the database and write lastgood.toml.

    Finds the server version, the privileges of the role, the owner, application roles and poolers, and lists the
    obstacles to a rollback. A password is never written; put it in ~/.pgpass or PGPASSWORD.
    """
    from lastgood.command.init import show as shown_survey
    from lastgood.command.init.survey import survey

    file = Path(config.FILE_NAME)
    if file.exists() and not force:
        raise Refused(
            f'cannot write "{file}": it already exists',
            hint="Edit it, or overwrite it: lastgood init --force",
            state=config.NOTHING_READ,
        )
    target = _target(session)
    result = survey(target)
    text = configuration(target, session.settings.store, result)
    try:
        with durable.written_file(file.resolve(), mode=0o644) as output:
            output.write(session.scrub(text).encode())
    except OSError as error:
        raise UsageError(f'cannot write "{file}": {error.strerror}', state=config.NOTHING_READ) from error
    password_left_out = bool(target.keywords.get("password"))
    document = {
        "file": str(file.resolve()),
        "password_left_out": password_left_out,
        "survey": result.model_dump(mode="json"),
    }
    session.result(
        document, lambda: shown_survey.show(session.screen, result, file, password_left_out=password_left_out)
    )


def _target(session: Session) -> Target:
    """Return the database from the settings. If they name none, ask at a terminal."""
    unnamed = session.settings.origins.get("db") == config.LIBPQ and not os.environ.get("PGDATABASE")
    if unnamed and session.interactive:
        session.screen.say("The live database, as a URL (postgresql://user@host:5432/name):", stderr=True)
        session.given["db"] = session.answer()
        session.settle()
    return session.target


def configuration(target: Target, store: Path, result: InitSurvey) -> str:
    """Return the text of a lastgood.toml for this database, without a password."""
    from lastgood.config import example

    lines = [
        f"# lastgood: the settings for rollbacks of database {_quoted(result.database)}.",
        f"# PostgreSQL {result.server_version}; owned by {_quoted(result.owner)}; inspected as {_quoted(result.role)}.",
    ]
    if result.migrations:
        lines.append(f"# Migrations: {_plain(result.migrations)}")
    for role in result.application_roles:
        lines.append(f"# Application role {_quoted(role.name)}: privileges on {counted(role.tables, 'table')}.")
    lines += [f"# Pooler found: {_quoted(name)}." for name in result.poolers]
    lines += [f"# To fix before a rollback: {_plain(text)}" for text in result.obstacles]
    lines += [
        "# Do not put passwords here: use ~/.pgpass or the variable PGPASSWORD.",
        "# Every other key, with an example: lastgood config example",
        "",
        f"db = {example.written(str(target.at(result.database)))}",
        f"store = {example.written(str(store))}    # the folder with the restore points",
        "",
        "# What `lastgood prune` and `lastgood backup --prune` keep; without these rules, everything.",
        "# [retention]",
        "# keep = { last = 3, daily = 7, weekly = 5 }    # restore points",
        '# kept = { last = 1, within = "7d" }            # kept databases',
    ]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _quoted(text: str) -> str:
    return f'"{_plain(text)}"'
