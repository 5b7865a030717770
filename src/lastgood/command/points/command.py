"""``lastgood points``: the restore points of the store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli import complete
from lastgood.cli.application import command, group
from lastgood.cli.operands import DATABASE
from lastgood.cli.parameters import Comparing, Level
from lastgood.config import NOTHING_READ
from lastgood.errors import NOT_REACHED, Failed, Refused, UsageError, os_reason
from lastgood.events import reported

if TYPE_CHECKING:
    from lastgood.cli.session import Session


def list_(
    session: Session,
    loss: Annotated[
        bool,
        typer.Option(
            "--loss", help="Compare the newest ones with the live database: the rows that a rollback to each changes."
        ),
    ] = False,
    compare: Comparing = None,
) -> None:
    """List the restore points in the store and in folders below it, the newest first.

    Restore points made by lastgood have a manifest. Of foreign ones this command reads only the beginning;
    `lastgood points verify` reads them to the end. With --loss, the numbers are those of the plan of
    `lastgood rollback`.
    """
    from lastgood import points
    from lastgood.command.points import show as shown

    if loss:
        _show_losses(session, compare)
        return

    found = sorted(points.all_points(session.settings.store), key=lambda point: point.made_at, reverse=True)
    document = {"store": str(session.settings.store), "points": [shown.document(point) for point in found]}
    others = () if found else points.nearby_folders(session.settings.store)
    session.result(document, lambda: shown.show_list(session.screen, session.settings.store, found, others))


def _show_losses(session: Session, compare: Level | None) -> None:
    from lastgood.cli.choice import compare_of
    from lastgood.command.points import losses
    from lastgood.command.points import show as shown
    from lastgood.loss import Comparing

    tables = session.settings.tables
    how = Comparing(compare_of(compare), tables.check.compare_limit, tables.loss)
    with session.work() as context, reported(context.emit, losses.STAGE, "compare the restore points") as stage:
        found, more = losses.of_points(session.target, session.settings.store, how, context)
        stage.detail = f"{len(found)} compared"
    document = {
        "store": str(session.settings.store),
        "points": [{**shown.document(each.point), **each.model_dump(mode="json", exclude={"point"})} for each in found],
        "more": more,
    }
    session.result(document, lambda: losses.show(session.screen, session.settings.store, found, more))


group_ = group("points", "List, verify and pin restore points. Without a command: list them.", list_)
command("list", into=group_)(list_)


@command("verify", 3, 4, into=group_)
def verify(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="POINT",
            help="Names or paths of restore points (default: all in the store).",
            autocompletion=complete.points,
        ),
    ] = None,
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE", help=DATABASE)] = None,
) -> int | None:
    """Verify that restore points are complete and not corrupted.

    Reads each one from end to end. Exits with 4 if one of them is not valid. A dump of part of a database (definitions
    only, rows only, no rows for some tables, or without objects that its own commands need) is "partial". It is not
    valid, because it cannot replace a database. An export of another program is "foreign". Every database of a cluster
    dump is read.
    """
    from lastgood import points
    from lastgood.command.points import show as shown

    store = session.settings.store
    wanted = [points.find(store, name) for name in names] if names else points.all_points(store)
    verdicts = []
    with session.work() as context:
        for point in wanted:
            with reported(context.emit, "verify", f"verify {point.path.name}") as stage:
                verdict = points.verify(point, database=database, context=context)
                stage.detail = verdict.state
            verdicts.append((point, verdict))
    document = {"points": [shown.verdict(point, verdict) for point, verdict in verdicts]}
    session.result(document, lambda: shown.show_verdicts(session.screen, verdicts))
    return None if all(verdict.valid for _, verdict in verdicts) else 4


@command("pin", 4, 5, into=group_)
def pin(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="POINT", help="Its name.", autocompletion=complete.points)],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="The reason to keep it.")],
) -> None:
    """Pin a restore point, so that no command removes it until it is unpinned.

    `lastgood prune` then keeps it whatever the retention rules, the age or the names on the command line are. The pin
    is a file next to the restore point and applies to all users of the store.
    """
    from lastgood import points
    from lastgood.command.points import show as shown
    from lastgood.points import pins

    if not reason.strip():
        raise UsageError(
            f'cannot pin "{name}": the reason is empty',
            hint="State why it must be kept, for the operator who reviews it later: --reason TEXT.",
            state=NOTHING_READ,
        )
    point = points.find(session.settings.store, name)
    try:
        made = pins.pin(point.path, " ".join(reason.split()))
    except OSError as error:
        raise _not_written("pin", name, point.path, error) from error
    session.result(
        {"point": shown.document(point), "pin": made.model_dump(mode="json")},
        lambda: session.screen.say(
            f"Done: {point.path.name} is pinned. To unpin it: lastgood points unpin {point.path.name}"
        ),
    )


@command("unpin", 3, 4, 5, into=group_)
def unpin(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="POINT", help="Its name.", autocompletion=complete.points)],
) -> None:
    """Unpin a restore point, so that it may be removed again."""
    from lastgood import points
    from lastgood.command.points import show as shown
    from lastgood.points import pins

    point = points.find(session.settings.store, name)
    before = pins.pin_of(point.path)
    if before is None:
        raise Refused(
            f'cannot unpin "{point.path.name}": it is not pinned',
            hint="Run lastgood points to see the pinned ones.",
            state=NOT_REACHED,
        )
    try:
        pins.unpin(point.path)
    except OSError as error:
        raise _not_written("unpin", name, point.path, error) from error
    session.result(
        {"point": shown.document(point), "pin": None},
        lambda: session.screen.say(f"Done: {point.path.name} may be removed again. It was {before.summary}"),
    )


def _not_written(what: str, name: str, path: Path, error: OSError) -> Failed:
    return Failed(
        f'cannot {what} "{name}": {os_reason(error)}',
        hint=f'A pin is a file next to the restore point. Make "{path.parent}" writable for this user.',
        state=NOT_REACHED,
    )
