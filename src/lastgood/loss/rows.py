"""The rows that a rollback removes, brings back and changes: counted exactly, within a time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lastgood.context import Context
from lastgood.difference import DatabaseSide, PointSide, TableDifference, compared
from lastgood.loss.content import Limit
from lastgood.plan.plan import TableLoss
from lastgood.points import VerifiedPoint
from lastgood.postgres.server import Connection, Target

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Sides:
    """The live database, and the restore point as it was read."""

    live: Target
    whole: VerifiedPoint
    database: str | None = None


def with_rows(
    losses: Sequence[TableLoss], live: Connection, sides: Sides, limit: Limit, cancelled: Callable[[], bool]
) -> tuple[TableLoss, ...]:
    """The same losses, with the exact numbers of rows of tables with other content, in the snapshot of ``live``.
    Tables that were not counted in time say so. Raises BadPoint, Failed, Interrupted."""
    wanted = {(each.schema_name, each.name) for each in losses if each.content == "changed" and not each.unreadable}
    if not wanted:
        return tuple(losses)
    found: dict[Key, TableDifference] = {}
    if limit.left > 0:
        row = live.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
        assert row is not None  # a SELECT without FROM always gives a row
        with compared(
            PointSide(sides.whole.point, "the restore point", sides.database, sides.whole),
            DatabaseSide(sides.live, "the live database", snapshot=row[0]),
            only=lambda relation: (relation.schema, relation.name) in wanted,
            by_root=False,
            digests=False,
            seconds=limit.left,
            context=Context(cancelled=cancelled),
        ) as comparison:
            found = {(each.schema_name, each.name): each for each in comparison.tables}
    return tuple(_with_counts(each, found, limit) if _key(each) in wanted else each for each in losses)


def _key(loss: TableLoss) -> Key:
    return loss.schema_name, loss.name


def _with_counts(loss: TableLoss, found: Mapping[Key, TableDifference], limit: Limit) -> TableLoss:
    counts = found.get(_key(loss))
    if counts is None or not counts.counted:
        why = counts.why if counts is not None else ""
        return loss.model_copy(update={"why": loss.why or why or limit.why})
    return loss.model_copy(
        update={
            "live_rows": counts.rows_b,
            "estimated": False,
            "lost": counts.only_b,
            "returns": counts.only_a,
            "changed": counts.changed,
        }
    )
