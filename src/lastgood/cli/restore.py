"""``lastgood restore``."""

from __future__ import annotations

from typing import Annotated

import typer

from lastgood import restore
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.session import PACE, Session
from lastgood.present import report as shown


@command("restore", 3, 4, 5, options=PACE)
def restore_(
    session: Session,
    point: Annotated[
        str, typer.Argument(metavar="POINT", help="Its name in the store, or a path.", autocompletion=points)
    ],
    into: Annotated[str, typer.Option("--into", metavar="NAME", help="The database to make; it must not exist.")],
) -> None:
    """Restore into a new database beside the live one, and prove it.

    Touches no other database. When it fails or is interrupted, the new database is removed again.
    """
    with session.events() as emit:
        report = restore.restore(
            session.target, session.settings.store, point, into, emit, session.pace, state=session.settings.state
        )
    session.result(report.document(), lambda: shown.show_restore(session.screen, report))
