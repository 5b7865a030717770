"""``lastgood notify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session


@command("notify", 5)
def notify(
    session: Session,
    names: Annotated[list[str] | None, typer.Argument(metavar="TARGET", help="Their names; all of them.")] = None,
    test: Annotated[bool, typer.Option("--test", help="Send each of them a message that says it is a test.")] = False,
) -> int | None:
    """Show who is told of runs, or send them a test message.

    Who is told of rollbacks, undos, deployments and drills, by [notifications] of lastgood.toml, and whether they can
    be. Nothing is sent without --test. Ends with 2 when an address is missing or is none, and with 5 when a test
    message was not accepted.
    """
    from lastgood.command.notify import show as shown

    targets = session.settings.tables.notifications.targets
    unknown = sorted(set(names or ()) - {each.name for each in targets})
    if unknown:
        known = ", ".join(f'"{each.name}"' for each in targets) or "none"
        raise UsageError(
            f'cannot find the target "{unknown[0]}": lastgood.toml has no such one',
            hint=f"Its [notifications] has: {known}.",
            state="Nothing was sent.",
        )
    found = session.news.look(names or (), test)
    session.result(found.document(), lambda: shown.show(session.screen, found))
    if any(each.problem for each in found.targets):
        return 5 if all(each.address_is_good for each in found.targets) else 2
    return None
