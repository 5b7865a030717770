"""``lastgood facts``."""

from __future__ import annotations

from typing import Annotated

import typer

from lastgood import config, secrecy
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.session import Session
from lastgood.errors import UsageError
from lastgood.facts.compare import compare
from lastgood.present import facts as shown
from lastgood.procedure import account

LIVE = "the live database"


@command("facts", 3, 4, 5)
def facts(
    session: Session,
    a: Annotated[
        str | None,
        typer.Argument(metavar="A", help="A restore point, or a database's URL.", autocompletion=points),
    ] = None,
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="Another one, to compare with the first.", autocompletion=points),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Compare A with the live database.")] = False,
) -> int | None:
    """Show what a restore point or a database contains, or compare two.

    Rows and a content digest of every table, sequences, newest time stamps, the migration version and the number
    of objects. Without A: those of the live database. A comparison that finds a difference ends with 3.
    """
    if (live and (a is None or b is not None)) or (b is not None and a is None):
        raise UsageError(
            "cannot compare: --live compares the live database with one other",
            hint="Give one restore point or URL: lastgood facts POINT --live",
            state=config.NOTHING_LOOKED_AT,
        )
    for operand in (a, b):
        if operand is not None and secrecy.is_url(operand):
            config.check_database(operand, "the command line")
    store, screen = session.settings.store, session.screen
    with session.work() as (emit, cancelled):
        if a is None:
            found = account.of_database(session.target, emit=emit, cancelled=cancelled)
        else:
            found = account.of_named(a, store, emit=emit, cancelled=cancelled)
        if b is not None:
            other = account.of_named(b, store, like=found, emit=emit, cancelled=cancelled)
        elif live:
            other = account.of_database(session.target, like=found, emit=emit, cancelled=cancelled)
        else:
            session.result({"facts": found.model_dump(mode="json")}, lambda: shown.show(screen, found))
            return None
    comparison = compare(found, other)
    names = (_name(a), LIVE if live else _name(b))
    document = {
        "expected": names[0],
        "found": names[1],
        "equal": comparison.equal,
        **comparison.model_dump(mode="json"),
    }
    session.result(document, lambda: shown.show_comparison(screen, comparison, *names))
    return None if comparison.equal else 3


def _name(operand: str | None) -> str:
    return LIVE if operand is None else "the database of the URL" if secrecy.is_url(operand) else operand
