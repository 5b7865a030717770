"""``lastgood status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from lastgood.cli.application import command
from lastgood.errors import UsageError

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.status import Status


@command("status", 3, 5, 7)
def status_(
    session: Session,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print metrics for Prometheus instead, those of the store included.")
    ] = False,
) -> int | None:
    """Show the state of the live database and of unfinished runs.

    Needs only the server, so it works on any machine, with or without the journal of a run. Exits with 7 if a run or a
    deployment was interrupted, or if PgBouncer is paused while no run is in progress.
    """
    found = _read(session)
    if metrics:
        _metrics(session, found)
    else:
        _show(session, found)
    return 7 if _stopped(found) else None


def glance(session: Session) -> int | None:
    """Show the status of the configured database, and the next command, if something is wrong with it: then return the
    exit status. Return None if nothing needs attention or no database is configured. Raises what ``status`` raises."""
    session.settle()
    if not session.names_a_database:
        return None
    found = _read(session)
    from lastgood.command.status.show import next_command

    if next_command(found) is None:
        return None
    _show(session, found)
    return 7 if _stopped(found) else 0


def _read(session: Session) -> Status:
    from lastgood import status
    from lastgood.command.report.inquiry import Inquiry
    from lastgood.command.report.post_mortems import open_post_mortems

    tables = session.settings.tables
    found = status.read(session.target, tables.pgbouncer, session.settings.state, tables.drill)
    open_ones = tuple(open_post_mortems(Inquiry.of(session.settings, session.target), found))
    return found.model_copy(update={"post_mortems": open_ones})


def _show(session: Session, found: Status) -> None:
    from lastgood.command.status import show as shown

    session.result(found.document(), lambda: shown.show(session.screen, found))


def _stopped(found: Status) -> bool:
    """Whether a run or a deployment was interrupted, or PgBouncer is paused while no run is in progress."""
    stopped = any(not run.working for run in found.unfinished) or any(not run.working for run in found.finishing)
    stopped = stopped or (found.deployment is not None and not found.deployment.working)
    held = not found.working and any(each.paused for each in found.pools)
    return bool(found.leftovers) or stopped or held


def _metrics(session: Session, found: Status) -> None:
    from lastgood import points
    from lastgood.command.status import metrics

    if session.settings.json:
        raise UsageError(
            "cannot print metrics: --metrics and --json are mutually exclusive",
            hint="Leave out one of them.",
            state="Nothing was changed.",
        )
    stored = points.all_points(session.settings.store)
    own = [each for each in stored if each.manifest is None or each.manifest.facts.database == found.live.name]
    typer.echo(metrics.text(found, own))
