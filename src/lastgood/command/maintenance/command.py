"""``lastgood maintenance``: the application stopped and started without a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command, group
from lastgood.errors import LastgoodError

if TYPE_CHECKING:
    from lastgood.cli.session import Session


def look(session: Session) -> None:
    """Show whether the application is stopped, and who is connected to the live database and writes."""
    from lastgood.command.maintenance import maintenance
    from lastgood.command.maintenance import show as shown

    found = maintenance.look(session.target, session.settings.state)
    session.result(found.document(), lambda: shown.show(session.screen, found))


group_ = group(
    "maintenance",
    "Stop the application, or start it again. Without a command: show how it stands.",
    look,
)


@command("on", 3, 5, 7, into=group_)
def turn_on(
    session: Session,
    keep_out: Annotated[
        bool, typer.Option("--fence", help="Keep writers out of the database, too, until Ctrl+C or `maintenance off`.")
    ] = False,
) -> None:
    """Turn maintenance mode on and stop the application, by its hooks.

    Says who is connected still, and whether anything is written all the same. With --fence writers wait at the database
    itself as long as this command runs, and readers go on; a fence never outlives it.
    """
    from lastgood.command.maintenance import maintenance
    from lastgood.command.maintenance import show as shown

    target, state = session.target, session.settings.state
    why = "the fence cannot be suspended: writers are waiting; press Ctrl+C to end it" if keep_out else ""
    with session.work(unsuspended=why) as (emit, cancelled):
        done = maintenance.on(target, state, session.application, emit, cancelled, fence_follows=keep_out)
        if not keep_out:
            shown.cautions(done, emit)
        else:
            try:
                maintenance.keep_out(target, state, emit, cancelled)
            except LastgoodError as error:
                error.state = maintenance.STAYS if session.application.stops else "Nothing was changed."
                raise
    session.result(done.document(), lambda: shown.show(session.screen, done))


@command("off", 3, 7, into=group_)
def turn_off(session: Session) -> None:
    """Start the application and turn maintenance mode off, by its hooks.

    Whoever had stopped it: `lastgood maintenance on`, or a run that ended before it could start it again. A fence of
    `maintenance on --fence` is ended, wherever it runs.
    """
    from lastgood.command.maintenance import maintenance
    from lastgood.command.maintenance import show as shown

    with session.work() as (emit, _):
        done = maintenance.off(session.target, session.settings.state, session.application, emit)
    session.result(done.document(), lambda: shown.show(session.screen, done))


command("status", into=group_)(look)
