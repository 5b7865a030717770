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
        bool, typer.Option("--quick", help="Within two minutes, whatever its size (the default).")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All rows of all tables, without a limit of time.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Only this rule, or this kind of rules; may be repeated."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option("--database", metavar="NAME", help="Another database of the same server: a shadow, a kept one."),
    ] = None,
    time_limit: Annotated[
        str | None, typer.Option("--time-limit", metavar="TIME", help="How long it may take: 30s, 10min.")
    ] = None,
) -> int | None:
    """Look whether the data is sound: GO or NO-GO.

    Rules come from the catalogue (foreign keys, required fields, unique keys, checks, sequences, indexes) and from
    [[validate.rules]] in lastgood.toml. Reads only, and hinders nobody. What did not fit into the time is listed.
    """
    from lastgood.command.validate import show as shown
    from lastgood.command.validate import validate
    from lastgood.journal import recording

    if quick and full:
        raise UsageError(
            "cannot validate: --quick and --full contradict each other",
            hint="Use --quick after a deployment, --full before the database goes into service.",
            state=config.NOTHING_LOOKED_AT,
        )
    if database is not None and not database.strip():
        raise UsageError(
            "cannot validate: --database is empty",
            hint="Name the database, or leave --database out to look at the live one.",
            state=config.NOTHING_LOOKED_AT,
        )
    target = session.target.at(database) if database is not None else session.target
    with session.work() as (emit, cancelled):
        verdict = validate.validate(
            target,
            session.settings.tables.validation,
            "full" if full else "quick",
            emit,
            cancelled,
            only=only or (),
            time_limit=lengths.seconds("--time-limit", time_limit) if time_limit is not None else None,
        )
    recording.remember(
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
