"""``lastgood runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.errors import UsageError
from lastgood.journal.recording import KINDS

if TYPE_CHECKING:
    from lastgood.cli.session import Session


@command("runs")
def runs(
    session: Session,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help=f"Only these: {', '.join(KINDS)}.")] = None,
    limit: Annotated[
        int, typer.Option("--limit", min=1, metavar="N", help="The number of runs to list, the newest first.")
    ] = 20,
) -> None:
    """List past runs: rollbacks, undos, restores and others.

    Shows the operator, time, outcome and duration of each run in the journals of this machine. Validations are listed
    only with --kind validate. Connects to no server.
    """
    from lastgood.command.report import report
    from lastgood.command.report import show as shown

    if kind is not None and kind not in KINDS:
        raise UsageError(
            f'cannot list runs of kind "{kind}": no such kind',
            hint=f"Kinds are {', '.join(KINDS)}.",
            state=config.NOTHING_READ,
        )
    state = session.settings.state
    found = report.runs(state, kind, limit)
    session.result(found.document(), lambda: shown.show_runs(session.screen, found, str(state / "runs")))
