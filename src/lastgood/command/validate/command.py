"""``lastgood validate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli import lengths
from lastgood.cli.application import command
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session


@command("validate", 3, 5)
def validate_(
    session: Session,
    quick: Annotated[
        bool, typer.Option("--quick", help="Finish within two minutes, whatever the size (the default).")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Check all rows of all tables, without a time limit.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this rule or kind of rule; can be repeated."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database", metavar="NAME", help="Another database on the same server: a shadow or kept database."
        ),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="TIME", help="Time limit: 30s, 10min.")
    ] = None,
) -> int | None:
    """Check data integrity: GO or NO-GO.

    The rules come from the catalogue (foreign keys, required fields, unique keys, checks, sequences, indexes) and from
    [[validate.rules]] in lastgood.toml. Reads only, and blocks no other session. Rules skipped for lack of time are
    listed.
    """
    from lastgood.command.validate import show as shown
    from lastgood.command.validate import validate
    from lastgood.journal import recording

    if quick and full:
        raise UsageError(
            "cannot validate: --quick and --full are mutually exclusive",
            hint="Use --quick after a deployment, --full before the database goes into service.",
            state=config.NOTHING_READ,
        )
    if database is not None and not database.strip():
        raise UsageError(
            "cannot validate: --database is empty",
            hint="Give a name, or leave --database out to validate the live database.",
            state=config.NOTHING_READ,
        )
    target = session.target.at(database) if database is not None else session.target
    with session.work() as context:
        verdict = validate.validate(
            target,
            session.settings.tables.validation,
            "full" if full else "quick",
            context,
            only=only or (),
            time_limit=lengths.seconds("--time-limit", time_limit) if time_limit is not None else None,
        )
    recording.record_short_run(
        session.settings.state,
        "validate",
        status="done",
        live=target.dbname,
        verdict=verdict.verdict,
        mode=verdict.mode,
        only=list(only or ()),
    )
    session.result(verdict.document(), lambda: shown.show(session.screen, verdict))
    return None if verdict.verdict == "GO" else 3
