"""``lastgood facts``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.operands import DATABASE, SHOWN, STDIN, are_parts, operands
from lastgood.errors import UsageError
from lastgood.text import redact

if TYPE_CHECKING:
    from lastgood.cli.session import Session

LIVE = "the live database"


@command("facts", 3, 4, 5)
def facts(
    session: Session,
    operands_given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="A [B]",
            help="A restore point, a kept database, the URL of a database, or - for standard input; a second one to "
            "compare with the first. The files of one dump (roles.sql, schema.sql, data.sql) count as one.",
            autocompletion=points,
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="Compare A with the live database.")] = False,
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE", help=DATABASE)] = None,
) -> int | None:
    """Show what restore points and databases contain, or compare two.

    Shows the row count and content digest of every table, sequences, newest time stamps, the migration version and the
    number of objects. Without A, shows the live database. A comparison that finds a difference exits with 3.
    """
    from lastgood.command.facts import account
    from lastgood.command.facts import show as shown
    from lastgood.config import connection_string
    from lastgood.facts.compare import compare

    wanted = (
        [operands_given] if operands_given and are_parts(operands_given) else [[name] for name in operands_given or ()]
    )
    a, b = [*wanted, None, None][:2]
    if live and (a is None or b is not None):
        raise UsageError(
            "cannot compare: --live compares A with the live database; do not give B",
            hint="Give one: lastgood facts POINT --live",
            state=config.NOTHING_READ,
        )
    for name in operands_given or ():
        if redact.is_url(name):
            connection_string.check(name, "the command line")
    store, screen = session.settings.store, session.screen
    with session.work() as context, operands(operands_given or [], store, context.emit) as names:
        named = partial(account.of_named, store=store, server=session.target, database=database, context=context)
        live_facts = partial(account.of_database, session.target, context=context)
        found = live_facts() if a is None else named(names[: len(a)])
        if b is not None:
            other = named(names[1:], like=found)
        elif live:
            other = live_facts(like=found)
        else:
            session.result({"facts": found.model_dump(mode="json")}, lambda: shown.show(screen, found))
            return None
    comparison = compare(found, other)
    sides = (_name(a), LIVE if live else _name(b))
    document = {
        "expected": sides[0],
        "found": sides[1],
        "equal": comparison.equal,
        **comparison.model_dump(mode="json"),
    }
    session.result(document, lambda: shown.show_comparison(screen, comparison, *sides))
    return None if comparison.equal else 3


def _name(operand: list[str] | None) -> str:
    if operand is None:
        return LIVE
    if operand == [STDIN]:
        return SHOWN
    return "the database of the URL" if redact.is_url(operand[0]) else " + ".join(operand)
