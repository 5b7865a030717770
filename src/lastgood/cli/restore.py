"""``lastgood restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from lastgood import restore
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.operands import DATABASE, SHOWN, STDIN, operands
from lastgood.cli.session import Session
from lastgood.present import report as shown


@command("restore", 3, 4, 5)
def restore_(
    session: Session,
    point: Annotated[
        list[str],
        typer.Argument(
            metavar="POINT",
            help="Its name in the store, or a path; several files that are one dump; - for standard input.",
            autocompletion=points,
        ),
    ],
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="The database to make; it must not exist.")],
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE", help=DATABASE)] = None,
) -> None:
    """Restore into a new database beside the live one, and prove it.

    Touches no other database. When it fails or is interrupted, the new database is removed again.
    """
    store = session.settings.store
    with session.events() as emit, operands(point, store, emit) as names:
        report = restore.restore(session.target, store, names, into, emit, database_name=database)
    if STDIN in point:
        report = report.model_copy(update={"point": SHOWN})
    session.result(report.document(), lambda: shown.show_restore(session.screen, report))
