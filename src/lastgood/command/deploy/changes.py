"""The rows that a migration changed: the difference from the restore point that was made before it."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from lastgood import loss, points
from lastgood.command.deploy.report import ChangedTable
from lastgood.context import Context
from lastgood.errors import NOT_REACHED
from lastgood.facts import Facts
from lastgood.plan.loss import TableLoss
from lastgood.points import RestorePoint, VerifiedPoint
from lastgood.postgres.errors import Context as ErrorContext
from lastgood.postgres.errors import failed
from lastgood.postgres.server import Target

STAGE = "changes"


def reads(point: RestorePoint) -> loss.Reads:
    """A function that reads a restore point of our own."""

    def whole(context: Context) -> VerifiedPoint:
        return points.read_whole(point, skim=True, skip_rows=True, stage=STAGE, context=context)

    return whole


def changes(
    target: Target, point: RestorePoint, facts: Facts, how: loss.Comparing, context: Context
) -> tuple[ChangedTable, ...]:
    """Compare a database with ``point``, whose facts are ``facts``. Raises BadPoint, Failed, Interrupted."""
    then = loss.Then.of(point, facts)
    try:
        with target.connect(application_name="lastgood inspects") as live:
            (found,) = loss.losses(live, target, [(then, reads(point))], how, context, stage=STAGE)
    except psycopg.Error as error:
        when: ErrorContext = "connect" if error.sqlstate is None else "any"
        raise failed(error, "compare the database", context=when, state=NOT_REACHED) from error
    return tables_of(found)


def tables_of(found: Sequence[TableLoss]) -> tuple[ChangedTable, ...]:
    """The tables that differ or were not compared, ordered by name: rows that a rollback would remove were added."""
    return tuple(
        ChangedTable(
            schema_name=each.schema_name,
            name=each.name,
            rows_before=each.point_rows,
            rows_after=each.live_rows,
            columns_added=each.columns_lost,
            columns_removed=each.columns_back,
            content=_content(each),
            added=each.lost,
            deleted=each.returns,
            changed=each.changed,
            why=each.why,
        )
        for each in found
        if each.content != "equal" and (each.differs or each.columns_lost or each.columns_back or each.content)
    )


def _content(each: TableLoss) -> bool | None:
    if each.content in (None, "not compared"):
        return None
    return any(each.at_least) if each.counted else True
