"""Losses in tables of extensions, of which a dump holds some rows or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import psycopg
from psycopg import sql

from lastgood.facts import TableFacts
from lastgood.load.repairs import extensions
from lastgood.loss.tables import Key, LiveTable
from lastgood.members import UndumpedRows
from lastgood.plan.loss import TableLoss
from lastgood.postgres.roles.table_code import not_to_query
from lastgood.postgres.server import Connection, only_row


def configuration(live: Connection, wanted: Mapping[Key, TableFacts]) -> dict[Key, tuple[LiveTable, int]]:
    """The configuration tables among ``wanted``, each with the rows that a dump holds and the number of other rows.
    Their columns come from the extension, and count as those of the restore point."""
    found: dict[Key, tuple[LiveTable, int]] = {}
    without = not_to_query(live)
    for relation, condition in extensions.configuration(live).items():
        key = (relation.schema, relation.name)
        if key not in wanted or key in without:
            continue
        table = sql.Identifier(*key)
        # The condition is the extension's own text, from the catalogue: pg_dump reads the rows with it.
        dumped = sql.SQL("SELECT count(*) FROM ONLY {} {}").format(table, sql.SQL(condition))
        query = sql.SQL("SELECT ({}), (SELECT count(*) FROM ONLY {})").format(dumped, table)
        try:
            with live.transaction():
                count, total = only_row(live, query)
        except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
            continue
        found[key] = (LiveTable(rows=count, exact=True, bytes=0, columns=wanted[key].columns), total - count)
    return found


def with_extensions(
    losses: Sequence[TableLoss], outside: Mapping[Key, int], held: Sequence[UndumpedRows]
) -> Iterator[TableLoss]:
    """The losses, with rows of extensions that no dump holds added on both sides: they are copied over."""
    rows = {(each.schema_name, each.name): each for each in held}
    for loss in losses:
        key = (loss.schema_name, loss.name)
        held_rows = rows.pop(key, None)
        more = outside.get(key, 0)
        if held_rows is None and not more:
            yield loss
            continue
        yield loss.model_copy(
            update={
                "live_rows": loss.live_rows + more if loss.live_rows is not None else None,
                "point_rows": loss.point_rows + more if loss.point_rows is not None else None,
                "not_in_dumps": held_rows.rows if held_rows is not None else 0,
            }
        )
    for each in rows.values():
        yield TableLoss(
            schema_name=each.schema_name,
            name=each.name,
            live_rows=each.outside,
            point_rows=each.outside,
            not_in_dumps=each.rows,
        )
