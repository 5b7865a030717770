"""``lastgood undo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command
from lastgood.cli.complete import switched_runs
from lastgood.cli.parameters import DryRun, Yes

if TYPE_CHECKING:
    from lastgood.cli.session import Session


@command("undo", 3, 5, 7)
def undo_(
    session: Session,
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="The run to undo (default: the newest).", autocompletion=switched_runs),
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Undo a completed rollback: switch back to the kept database.

    Takes one transaction of milliseconds. The replaced database is kept with everything written since, so an undo can
    be undone.
    """
    from lastgood import undo
    from lastgood.command.rollback import show as shown
    from lastgood.screen import news

    target, screen = session.target, session.screen
    pgbouncer = session.settings.tables.pgbouncer
    with session.news.notifying("undo", target, unattended=yes and not dry_run) as notifier:
        plan = undo.plan(target, target.dbname, run, pgbouncer)
        if dry_run:
            session.result(plan.model_dump(mode="json"), lambda: shown.show_undo_plan(screen, plan))
            return
        if not session.settings.json and not (yes and session.settings.quiet):
            shown.show_undo_plan(screen, plan)
        session.confirm("switch back", plan.live, yes)
        notifier.began(plan.run, lambda: news.undo_begun(plan))
        with session.events() as emit:
            report = undo.undo(target, plan, session.context(emit), pgbouncer, session.application)
        notifier.ended(lambda: news.undone(report))
    session.result(report.document(), lambda: shown.show_undo(screen, report))
