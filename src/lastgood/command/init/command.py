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

    place = Path(config.FILE_NAME)
    if place.exists() and not force:
        raise Refused(
            f'cannot write "{place}": it already exists',
            hint="Edit it, or overwrite it: lastgood init --force",
            state=config.NOTHING_READ,
        )
    target = _ask(session)
    found = survey(target)
    text = configuration(target, session.settings.store, found)
    try:
        with durable.written_file(place.resolve(), mode=0o644) as file:
            file.write(session.scrub(text).encode())
    except OSError as error:
        raise UsageError(f'cannot write "{place}": {error.strerror}', state=config.NOTHING_READ) from error
    left_out = bool(target.keywords.get("password"))
    document = {"file": str(place.resolve()), "password_left_out": left_out, "survey": found.model_dump(mode="json")}
    session.result(document, lambda: shown_survey.show(session.screen, found, place, password_left_out=left_out))


def _ask(session: Session) -> Target:
    """Return the database from the settings. If they name none, ask at a terminal."""
    unnamed = session.settings.origins.get("db") == config.LIBPQ and not os.environ.get("PGDATABASE")
    if unnamed and session.interactive:
        session.screen.say("The live database, as a URL (postgresql://user@host:5432/name):", stderr=True)
        session.given["db"] = session.answer()
        session.settle()
    return session.target


def configuration(target: Target, store: Path, found: InitSurvey) -> str:
    """Return the text of a lastgood.toml for this database, without a password."""
    from lastgood.config import example

    lines = [
        f"# lastgood: how to put {_quoted(found.database)} back to its last good state.",
        f"# PostgreSQL {found.server_version}; owned by {_quoted(found.owner)}; inspected as {_quoted(found.role)}.",
    ]
    if found.migrations:
        lines.append(f"# Migrations: {_plain(found.migrations)}")
    for role in found.application_roles:
        lines.append(f"# Application role {_quoted(role.name)}: privileges on {counted(role.tables, 'table')}.")
    lines += [f"# Pooler found: {_quoted(name)}." for name in found.poolers]
    lines += [f"# To fix before a rollback: {_plain(text)}" for text in found.obstacles]
    lines += [
        "# Do not put passwords here: use ~/.pgpass or the variable PGPASSWORD.",
        "# Every other key, with an example: lastgood config example",
        "",
        f"db = {example.written(str(target.at(found.database)))}",
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
