"""``lastgood prune``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.cli.complete import points
from lastgood.cli.parameters import DryRun, Yes
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session

_AGE = re.compile(r"(\d+)\s*([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


@command("prune", 3, 5, 7)
def prune_(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Kept databases and restore points.", autocompletion=points),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Remove what is older: 12h, 30d, 8w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option("--keep", min=0, metavar="N", help="Remove all but the N newest of each kind.")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Remove kept databases and restore points permanently.

    Applies [retention] of lastgood.toml if no option or name is given. It always keeps the last valid restore point,
    pinned ones, and those that an unfinished run needs. It also keeps, unless named, the kept database of the last run,
    the restore point of that run, and what an unwritten post-mortem refers to.
    """
    from lastgood.command.prune import plan as planning
    from lastgood.command.prune import removal
    from lastgood.command.prune import show as shown

    target, screen = session.target, session.screen
    age = _age(older_than) if older_than is not None else None
    tables = session.settings.tables
    criteria = planning.Criteria(older_than=age, keep=keep, named=tuple(names or ()), retention=tables.retention)
    within = tables.record.post_mortem_within
    plan = planning.plan(target, session.settings.store, criteria, session.settings.state, post_mortem_within=within)
    if dry_run or not plan.going:
        session.result(plan.document(), lambda: shown.show(screen, plan))
        return
    if not session.settings.json and not (yes and session.settings.quiet):
        shown.show(screen, plan)
    session.confirm("remove them permanently", plan.live, yes)
    with session.events() as emit:
        document = removal.run(target, plan, session.context(emit), post_mortem_within=within)
    session.result(document, lambda: shown.show_done(screen, document))


def _age(text: str) -> timedelta:
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError(
            f'cannot parse age "{text}": it must be a number of hours, days or weeks',
            hint="Give it as 12h, 30d or 8w.",
            state=config.NOTHING_READ,
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
