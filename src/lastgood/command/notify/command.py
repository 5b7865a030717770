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
    names: Annotated[
        list[str] | None, typer.Argument(metavar="TARGET", help="Names of targets (default: all).")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Send each of them a test message.")] = False,
) -> int | None:
    """Show the notification targets, or send them a test message.

    Lists the targets in [notifications] of lastgood.toml that are notified of rollbacks, undos, deployments and drills,
    and checks their addresses. Nothing is sent without --test. Exits with 2 if an address is missing or invalid, and
    with 5 if a test message was not accepted.
    """
    from lastgood.command.notify import show as shown

    targets = session.settings.tables.notifications.targets
    unknown = sorted(set(names or ()) - {each.name for each in targets})
    if unknown:
        names_known = ", ".join(f'"{each.name}"' for each in targets) or "none"
        raise UsageError(
            f'cannot find target "{unknown[0]}": lastgood.toml does not define it',
            hint=f"Use one of the targets in its [notifications]: {names_known}.",
            state="Nothing was sent.",
        )
    found = session.news.check(names or (), test)
    session.result(found.document(), lambda: shown.show(session.screen, found))
    if any(each.problem for each in found.targets):
        return 5 if all(each.address_is_valid for each in found.targets) else 2
    return None
