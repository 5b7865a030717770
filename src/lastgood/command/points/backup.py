"""``lastgood backup``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lastgood import config
from lastgood.cli.application import command
from lastgood.errors import LastgoodError, UsageError
from lastgood.events import Caution, Emit, reported

if TYPE_CHECKING:
    from lastgood.cli.session import Session
    from lastgood.context import Context


@command("backup", 3, 4, 5, options=("format",))
def backup(
    session: Session,
    label: Annotated[
        str, typer.Option("--label", help="A word to add to the name, for example before-release-42.")
    ] = "",
    pin: Annotated[str, typer.Option("--pin", metavar="REASON", help="Pin it, so that no command removes it.")] = "",
    prune_too: Annotated[
        bool, typer.Option("--prune", help="After the backup, apply [retention] as lastgood prune does.")
    ] = False,
) -> int | None:
    """Make and verify a restore point of the live database.

    The dump and its facts come from one snapshot. The dump is read back and compared before it counts as a restore
    point. Readers and writers are not blocked. An interrupted or failed backup leaves nothing behind. With --prune,
    older restore points and kept databases are then removed as by `lastgood prune`, without confirmation. If that
    fails, the new restore point remains.
    """
    from lastgood.command.points import show as shown
    from lastgood.command.prune import show as shown_prune
    from lastgood.points import dump_point

    settings = session.settings
    if prune_too and (policy := settings.tables.retention).keep is None and policy.kept is None:
        raise UsageError(
            "cannot prune after the backup: lastgood.toml has no retention rules",
            hint="Add a [retention] table to it, as docs/retention.md describes.",
            state=config.NOTHING_READ,
        )
    with session.work() as context:
        with reported(context.emit, "backup", "back up the live database") as stage:
            point = dump_point.take(session.target, settings.store, label=label, form=settings.format, context=context)
            if pin:
                _pin(point.path, pin, context.emit)
            stage.detail = point.path.name
        removed, status = _prune(session, point.path, context) if prune_too else ((), None)
    document = {"point": shown.document(point), "seconds": round(stage.seconds, 3)}
    if prune_too:
        document["removed"] = list(removed)

    def show() -> None:
        shown.show_made(session.screen, point, stage.seconds, session.rollback_command(point.path.name))
        if prune_too and status is None:
            session.screen.out.print()
            shown_prune.show_done(session.screen, {"removed": removed})

    session.result(document, show)
    return status


def _pin(point: Path, reason: str, emit: Emit) -> None:
    from lastgood.points import pins

    try:
        pins.pin(point, " ".join(reason.split()))
    except OSError as error:
        emit(Caution(f'restore point "{point.name}" was created, but could not be pinned: {error.strerror or error}'))


def _prune(session: Session, made: Path, context: Context) -> tuple[Sequence[str], int | None]:
    """Return what was removed, and the exit status when that failed. The new restore point remains in either case."""
    from lastgood.command.prune import plan as planning
    from lastgood.command.prune import removal

    tables, settings = session.settings.tables, session.settings
    criteria = planning.Criteria(retention=tables.retention)
    within = tables.record.post_mortem_within
    try:
        plan = planning.plan(
            session.target, settings.store, criteria, settings.state, post_mortem_within=within, valid=made
        )
        if not plan.going:
            return (), None
        return removal.run(session.target, plan, context, post_mortem_within=within)["removed"], None
    except LastgoodError as error:
        context.emit(Caution(f"the restore point was created, but pruning failed: {error}"))
        return (), error.exit_status
