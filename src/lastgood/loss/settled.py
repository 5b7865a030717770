"""The final losses of a rollback, from the emergency backup: the live database's last rows, counted and with
digests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lastgood import points
from lastgood.context import Context
from lastgood.difference import PointSide, TableDifference, compared
from lastgood.errors import BadPoint, LastgoodError
from lastgood.events import reported
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.loss.comparing import Comparing
from lastgood.loss.content import POINT, Reads, TimeLimit
from lastgood.loss.patterns import referring
from lastgood.loss.tables import LARGE_OBJECTS
from lastgood.plan.loss import TableLoss
from lastgood.points.manifest import manifest_of

STAGE = "losses"


@dataclass(frozen=True, slots=True)
class Settling:
    """The inputs for the exact numbers of rows: the restore point, and the limits."""

    whole: Reads
    how: Comparing
    context: Context


def settled(
    losses: Sequence[TableLoss], emergency: str | None, then: Facts | None = None, settling: Settling | None = None
) -> tuple[TableLoss, ...]:
    """The planned losses, updated with the rows of the emergency backup: the application kept writing until the fence.
    ``then``: the restore point's facts; with them each table's content is compared exactly, and with ``settling`` the
    rows of those that differ are counted in both files. Without a backup or a readable manifest the planned losses are
    returned."""
    manifest = None
    if emergency:
        with suppress(BadPoint):  # the planned figures are slightly older, which is no reason to fail
            manifest = manifest_of(Path(emergency))
    if manifest is None:
        return tuple(losses)
    now = {(each.schema_name, each.name): each.rows for each in manifest.facts.tables}
    now[LARGE_OBJECTS] = manifest.facts.large_objects.count
    states: dict[tuple[str, str], bool | None] = {}
    if then is not None:
        states = {(each.schema_name, each.name): each.equal for each in compare(then, manifest.facts).tables}
        states[LARGE_OBJECTS] = then.large_objects == manifest.facts.large_objects
    found = []
    for each in losses:
        key = (each.schema_name, each.name)
        last = now.get(key)
        if last is None:
            found.append(each)
            continue
        update: dict[str, object] = {"live_rows": last, "estimated": False}
        if each.live_rows is not None and each.written_since is not None:
            update["written_since"] = max(0, each.written_since + last - each.live_rows)
        if states.get(key) is not None:
            update |= {"content": "equal" if states[key] else "changed", "why": ""}
        if states.get(key):
            update |= {"lost": 0, "returns": 0, "changed": 0}
        elif last != each.live_rows or (states.get(key) is False and each.content != "changed"):
            update |= {"lost": None, "returns": None, "changed": None}  # counted before the last writes
        found.append(each.model_copy(update=update))
    if emergency and settling is not None and settling.how.level == "count" and not settling.how.off:
        return _counted(found, Path(emergency), settling)
    return tuple(found)


def _counted(losses: Sequence[TableLoss], emergency: Path, settling: Settling) -> tuple[TableLoss, ...]:
    """The losses with the exact numbers of rows of all tables that differ. What was not counted in time, or cannot be
    read any more, stays as it is: the rollback is done."""
    wanted = {(each.schema_name, each.name) for each in losses if each.content == "changed"} - {LARGE_OBJECTS}
    if not wanted:
        return tuple(losses)
    limit = TimeLimit.of(settling.how.seconds)
    context = settling.context.until(lambda: limit.over)
    found: dict[tuple[str, str], TableDifference] = {}
    with (
        # The rollback is done: neither an error nor Ctrl+C must keep its end out of the journal.
        suppress(LastgoodError, OSError, KeyboardInterrupt),
        reported(context.emit, STAGE, "count the rows that the rollback replaced"),
    ):
        point = points.find(emergency.parent, emergency.name)
        last = points.read_whole(point, skim=True, skip_rows=True, stage=STAGE, context=context)
        whole = settling.whole(context)
        with compared(
            PointSide(whole.point, POINT, whole.summary.database, whole),
            PointSide(last.point, "the emergency backup", last.summary.database, last),
            only=lambda relation: (relation.schema, relation.name) in wanted,
            by_root=False,
            digests=False,
            references=referring(settling.how.rules),
            seconds=limit.left,
            context=settling.context,
            stage=STAGE,
        ) as comparison:
            found = {(each.schema_name, each.name): each for each in comparison.tables}
    return tuple(_with(each, found.get((each.schema_name, each.name))) for each in losses)


def _with(loss: TableLoss, counts: TableDifference | None) -> TableLoss:
    if counts is None or not counts.counted or counts.state not in ("equal", "different"):
        return loss
    return loss.model_copy(
        update={
            "lost": counts.only_b,
            "returns": counts.only_a,
            "changed": counts.changed,
            "referenced": counts.referenced,
            "columns_lost": counts.columns_b,
            "columns_back": counts.columns_a,
            "why": "",
        }
    )
