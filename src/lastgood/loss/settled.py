"""The final losses of a rollback, from the emergency backup: the live database's last rows, counted and with
digests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lastgood.errors import BadPoint
from lastgood.facts import Facts
from lastgood.facts.compare import compare
from lastgood.loss.tables import LARGE_OBJECTS
from lastgood.plan.loss import TableLoss
from lastgood.points.manifest import manifest_of


def settled(losses: Sequence[TableLoss], emergency: str | None, then: Facts | None = None) -> tuple[TableLoss, ...]:
    """The planned losses, updated with the rows of the emergency backup: the application kept writing until the fence.
    ``then``: the restore point's facts; with them each table's content is compared exactly. Without a backup or a
    readable manifest the planned losses are returned."""
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
    return tuple(found)
