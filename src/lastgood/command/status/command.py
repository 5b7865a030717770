"""``lastgood status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.cli.application import command

if TYPE_CHECKING:
    from lastgood.cli.session import Session


@command("status", 3, 5, 7)
def status_(session: Session) -> int | None:
    """Show the state of the live database and of unfinished runs.

    Needs only the server, so it works on any machine, with or without the journal of a run. Exits with 7 if a run or a
    deployment was interrupted, or if PgBouncer is paused while no run is in progress.
    """
    from lastgood import status
    from lastgood.command.report.inquiry import Inquiry
    from lastgood.command.report.unwritten import to_do
    from lastgood.command.status import show as shown

    tables = session.settings.tables
    found = status.read(session.target, tables.pgbouncer, session.settings.state, tables.drill)
    found = found.model_copy(update={"post_mortems": tuple(to_do(Inquiry.of(session.settings, session.target), found))})
    session.result(found.document(), lambda: shown.show(session.screen, found))
    stopped = any(not run.working for run in found.unfinished) or any(not run.working for run in found.finishing)
    stopped = stopped or (found.deployment is not None and not found.deployment.working)
    held = not found.working and any(each.paused for each in found.pools)
    return 7 if found.leftovers or stopped or held else None
