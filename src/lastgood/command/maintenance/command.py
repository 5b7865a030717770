"""``lastgood maintenance``: stop and start the application without a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command, group
from lastgood.errors import NOT_REACHED, LastgoodError

if TYPE_CHECKING:
    from lastgood.cli.session import Session


def show_status(session: Session) -> None:
    """Show whether the application is stopped, and which sessions are connected to the live database or write."""
    from lastgood.command.maintenance import maintenance
    from lastgood.command.maintenance import show as shown

    found = maintenance.status(session.target, session.settings.state)
    session.result(found.document(), lambda: shown.show(session.screen, found))


group_ = group(
    "maintenance",
    "Stop the application, or start it again. Without a command: show its state.",
    show_status,
)


@command("on", 3, 5, 7, into=group_)
def turn_on(
    session: Session,
    keep_out: Annotated[
        bool, typer.Option("--fence", help="Also block writes in the database until Ctrl+C or `maintenance off`.")
    ] = False,
) -> None:
    """Turn maintenance mode on and stop the application with its hooks.

    Lists the sessions that are still connected, and whether writes still arrive. With --fence, writers wait in the
    database while this command runs; readers are not blocked. The fence ends with the command.
    """
    from lastgood.command.maintenance import maintenance
    from lastgood.command.maintenance import show as shown

    target = session.target
    why = "cannot suspend the fence: writers are waiting; press Ctrl+C to end it" if keep_out else ""
    with session.work(unsuspended=why) as context:
        done = maintenance.on(target, session.application, context, fence_follows=keep_out)
        if not keep_out:
            shown.cautions(done, context.emit)
        else:
            try:
                maintenance.block_writes(target, context)
            except LastgoodError as error:
                error.state = maintenance.REMAINS_STOPPED if session.application.stops else NOT_REACHED
                raise
    session.result(done.document(), lambda: shown.show(session.screen, done))


@command("off", 3, 7, into=group_)
def turn_off(session: Session) -> None:
    """Start the application and turn maintenance mode off with its hooks.

    Applies to an application that `lastgood maintenance on` stopped, or a run that ended before it could start it
    again. Ends a fence of `maintenance on --fence`, wherever it runs.
    """
    from lastgood.command.maintenance import maintenance
    from lastgood.command.maintenance import show as shown

    with session.work() as context:
        done = maintenance.off(session.target, session.application, context)
    session.result(done.document(), lambda: shown.show(session.screen, done))


command("status", into=group_)(show_status)
