"""The rows that a rollback to each restore point would remove, bring back and change, side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from lastgood import loss, points
from lastgood.command.rollback.show_losses import CHANGE, LOSS, at_least
from lastgood.context import Context
from lastgood.errors import NOT_REACHED, BadPoint
from lastgood.models import Frozen
from lastgood.plan.loss import TableLoss, Totals
from lastgood.points import RestorePoint, VerifiedPoint, name_in
from lastgood.postgres import errors as server_errors
from lastgood.postgres.server import Target
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

STAGE = "losses"
# More than these fill a screen, and each takes time.
MOST = 12


class PointLoss(Frozen):
    """The difference between a restore point and the live database. ``loss`` has every table; ``lost``, ``returns``
    and ``changed`` are its sums, minimums unless ``exact``. ``problem``: why the restore point could not be read."""

    point: RestorePoint
    loss: tuple[TableLoss, ...] = ()
    lost: int | None = None
    returns: int | None = None
    changed: int | None = None
    exact: bool = False
    problem: str = ""


def of_points(target: Target, store: Path, how: loss.Comparing, context: Context) -> tuple[tuple[PointLoss, ...], int]:
    """The newest restore points of the database, and the number of older ones. Raises Failed, Interrupted."""
    name = target.dbname
    there = [point for point in points.all_points(store) if point.manifest is None or point.manifest.database == name]
    there.sort(key=lambda point: point.made_at, reverse=True)
    read: list[VerifiedPoint] = []
    found: dict[Path, PointLoss] = {}
    for point in there[:MOST]:
        context.check("cannot compare the restore points: interrupted")
        try:
            skim = point.manifest is not None
            read.append(
                points.read_whole(point, database=name, skim=skim, skip_rows=True, stage=STAGE, context=context)
            )
        except BadPoint as error:
            found[point.path] = PointLoss(point=point, problem=str(error))
    try:
        with target.connect(application_name="lastgood points") as live:
            losses = loss.losses(
                live,
                target,
                [(loss.Then.of(each.point, each.facts), _reads(each)) for each in read],
                how,
                context,
                stage=STAGE,
            )
    except psycopg.Error as error:
        when: server_errors.Context = "connect" if error.sqlstate is None else "any"
        raise server_errors.failed(error, f'compare "{name}"', context=when, state=NOT_REACHED) from error
    for each, lost in zip(read, losses, strict=True):
        totals = Totals.of(lost)
        found[each.point.path] = PointLoss(
            point=each.point,
            loss=lost,
            lost=totals.lost,
            returns=totals.returns,
            changed=totals.changed,
            exact=totals.exact,
        )
    return tuple(found[point.path] for point in there[:MOST]), max(0, len(there) - MOST)


def _reads(whole: VerifiedPoint) -> Callable[[Context], VerifiedPoint]:
    return lambda context: whole


def show(screen: Screen, store: Path, found: Sequence[PointLoss], more: int) -> None:
    """Print one line for each restore point, the newest first."""
    if not found:
        screen.say(f'No restore points in "{store}". To make one: lastgood backup')
        return
    columns = (
        TableColumn("restore point", fold=True),
        TableColumn("made", drop=1),
        TableColumn("lost", right=True, style=LOSS),
        TableColumn("returns", right=True),
        TableColumn("changed", right=True, style=CHANGE),
    )
    screen.table(columns, [_row(store, each) for each in found])
    screen.out.print()
    for each in found:
        if each.problem:
            screen.say(f"{each.point.path.name}: {each.problem}", first="DAMAGED ", indent=8, style="bold red")
    if any(not each.exact and not each.problem for each in found):
        screen.say("≥ or ?: not all rows were counted; the plan of a rollback names the tables.")
    if more:
        screen.say(f"{units.counted(more, 'older restore point')} not compared.")
    screen.say("The tables of one of them: lastgood rollback POINT --dry-run")


def _row(store: Path, each: PointLoss) -> tuple[str, ...]:
    name, made = name_in(store, each.point), units.moment(each.point.made_at).removesuffix(" UTC")
    if each.lost is None:
        return name, made, "unknown", "", ""
    numbers = (each.lost, each.returns or 0, each.changed or 0)
    return name, made, *((units.number(rows) if each.exact else at_least(rows)) for rows in numbers)
