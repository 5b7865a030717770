"""``lastgood backup``."""

from __future__ import annotations

from time import monotonic
from typing import Annotated

import typer

from lastgood.cli.application import command
from lastgood.cli.session import Session
from lastgood.events import StageDone, StageStarted
from lastgood.points import dump_point
from lastgood.present import points as shown


@command("backup", 3, 4, 5, options=("format",))
def backup(
    session: Session,
    label: Annotated[str, typer.Option("--label", help="A word of your own in its name: before-release-42, say.")] = "",
) -> None:
    """Make a restore point of the live database, and verify it.

    One snapshot gives the dump and its facts; the dump is read back and compared before it counts. Readers and
    writers go on. An interrupted or failed backup leaves nothing behind.
    """
    settings = session.settings
    started = monotonic()
    with session.work() as (emit, cancelled):
        emit(StageStarted("backup", "back up the live database"))
        point = dump_point.take(
            session.target, settings.store, label=label, form=settings.format, emit=emit, cancelled=cancelled
        )
        seconds = monotonic() - started
        emit(StageDone("backup", seconds, point.path.name))
    document = {"point": shown.document(point), "seconds": round(seconds, 3)}
    session.result(document, lambda: shown.show_made(session.screen, point, seconds))
