"""``lastgood points``: what one can go back to."""

from __future__ import annotations

from time import monotonic
from typing import Annotated

import typer

from lastgood import points
from lastgood.cli import complete
from lastgood.cli.application import command, group
from lastgood.cli.operands import DATABASE
from lastgood.cli.session import Session
from lastgood.events import StageDone, StageStarted
from lastgood.present import points as shown


def list_(session: Session) -> None:
    """List the restore points in the store, the newest first.

    Those that lastgood made have a manifest. Of foreign ones only the beginning is read here; `lastgood points verify`
    reads them to the end.
    """
    found = sorted(points.listing(session.settings.store), key=lambda point: point.made_at, reverse=True)
    document = {"store": str(session.settings.store), "points": [shown.document(point) for point in found]}
    session.result(document, lambda: shown.show_list(session.screen, session.settings.store, found))


group_ = group("points", "List and verify restore points. Without a command: list them.", list_)
command("list", into=group_)(list_)


@command("verify", 3, 4, into=group_)
def verify(
    session: Session,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="POINT", help="Their names or paths; all of the store.", autocompletion=complete.points),
    ] = None,
    database: Annotated[str | None, typer.Option("--database", metavar="DATABASE", help=DATABASE)] = None,
) -> int | None:
    """Say of restore points whether they are complete and uncorrupted.

    Reads each one from end to end. Ends with 4 when one of them is not valid. One that has definitions only, or rows
    only, is "partial", which is not valid: it can't replace a database. Of a dump of a whole cluster every database is
    read.
    """
    store = session.settings.store
    wanted = [points.find(store, name) for name in names] if names else points.listing(store)
    verdicts = []
    with session.work() as (emit, cancelled):
        for point in wanted:
            started = monotonic()
            emit(StageStarted("verify", f"verify {point.path.name}"))
            verdict = points.verify(point, database=database, emit=emit, cancelled=cancelled)
            emit(StageDone("verify", monotonic() - started, verdict.state))
            verdicts.append((point, verdict))
    document = {"points": [shown.verdict(point, verdict) for point, verdict in verdicts]}
    session.result(document, lambda: shown.show_verdicts(session.screen, verdicts))
    return None if all(verdict.valid for _, verdict in verdicts) else 4
