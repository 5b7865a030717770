"""The data that a rollback removes, table by table: the live database now, compared with the restore point's facts.

The live database is no reference (it is broken, which is why it is rolled back); it is only read to show the
difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import psycopg
from psycopg import sql

from lastgood.config.tables import Loss
from lastgood.context import BACKGROUND, Context
from lastgood.dump.names import Relation
from lastgood.errors import Failed
from lastgood.facts import Facts
from lastgood.loss.comparing import Comparing
from lastgood.loss.content import TURNED_OFF, Content, Reader, Reads, TimeLimit, not_counted, snapshot_of, turned_off
from lastgood.loss.extensions import configuration, with_extensions
from lastgood.loss.grants import revoked_since
from lastgood.loss.patterns import referring
from lastgood.loss.revivals import revivals
from lastgood.loss.settled import Settling, settled
from lastgood.loss.tables import LARGE_OBJECTS, Key, LiveTable, Then, counted, listing
from lastgood.members import UndumpedRows
from lastgood.plan.loss import TableLoss
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection, Target
from lastgood.postgres.sessions import locked_tables

__all__ = [
    "Comparing",
    "Content",
    "Key",
    "LiveTable",
    "Reader",
    "Reads",
    "Settling",
    "Then",
    "TimeLimit",
    "counted",
    "listing",
    "losses",
    "referring",
    "revivals",
    "revoked_since",
    "settled",
    "snapshot_of",
    "table_losses",
    "turned_off",
]

COUNT_SECONDS = 60.0
# A table that another session has locked (an open migration) must not block the plan.
LOCK_TIMEOUT = "2s"
# Classes of SQLSTATE: damaged data, and files that the server can't read.
DAMAGE = ("XX", "58")
UNREAD = "large objects are compared with the emergency backup"
DEFAULTS = Loss()
# Our own lists of deferred work.
OURS = "lastgood_"


def losses(
    live: Connection,
    target: Target,
    points: Sequence[tuple[Then, Reads]],
    how: Comparing,
    context: Context = BACKGROUND,
    *,
    held: Sequence[UndumpedRows] = (),
    stage: str = "difference",
) -> list[tuple[TableLoss, ...]]:
    """For each of ``points``, with known facts and a function that reads it: one entry for each table of either side
    that carries rows, and for each of ``held``: tables of extensions with rows that no dump holds.

    ``live`` is a connection to ``target``, and is put into one read-only snapshot. The server's estimate replaces a
    count that takes more than a minute, and the count of a table that is damaged or locked against readers. Raises
    psycopg.Error, BadPoint, Interrupted."""

    def unreadable(key: Key, error: psycopg.Error) -> str:
        if (error.sqlstate or "")[:2] not in DAMAGE:
            raise error
        return message_of(error)

    with snapshot_of(live) as snapshot:
        live.execute("SET LOCAL row_security = off")
        live.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        shut = {(each.schema, each.name) for each in locked_tables(live)}
        tables, stamps = listing(live)
        then = [each for each, _ in points]
        tables = counted(live, tables, stamps, then, shut=shut, seconds=lambda: COUNT_SECONDS, trouble=unreadable)
        reader = Reader(target, snapshot, shut, referring(how.rules), context, stage)
        found = []
        for place, (each, whole) in enumerate(points):
            assert each.facts is not None
            of_extensions = configuration(live, {(one.schema_name, one.name): one for one in each.facts.tables})
            there = tables | {key: table for key, (table, _) in of_extensions.items()}
            content = _contents(reader, there, each.facts, whole, how)
            lost = table_losses(there, each.facts, place, content, how.rules)
            outside = {key: more for key, (_, more) in of_extensions.items()}
            lost = tuple(with_extensions(lost, outside, held))
            found.append(tuple(sorted(lost, key=lambda loss: (loss.schema_name, loss.name))))
    return found


def _contents(
    reader: Reader, tables: Mapping[Key, LiveTable], facts: Facts, whole: Reads, how: Comparing
) -> dict[Key, Content]:
    if how.off:
        return turned_off(tables, facts, reader.shut, TURNED_OFF)
    try:
        return _compared(reader, tables, facts, whole, how)
    except Failed as error:
        # Too few connections, for example: an emergency does not wait for exact numbers.
        return turned_off(tables, facts, reader.shut, str(error))


def _compared(
    reader: Reader, tables: Mapping[Key, LiveTable], facts: Facts, whole: Reads, how: Comparing
) -> dict[Key, Content]:
    until = TimeLimit.of(how.seconds)
    content = reader.compare(tables, facts, until if how.bounded else TimeLimit.of(None))
    if how.level != "count":
        return not_counted(content)
    return reader.count(tables, content, facts, whole, until if how.bounded else TimeLimit.of(how.seconds))


def table_losses(
    tables: Mapping[Key, LiveTable],
    facts: Facts,
    place: int | None,
    content: Mapping[Key, Content],
    rules: Loss = DEFAULTS,
) -> tuple[TableLoss, ...]:
    """The loss of each table, by schema and name. ``place``: the position of the restore point in ``LiveTable.since``,
    None where later rows were not counted. For a partitioned table, the entries are those of the restore point: the
    table or its partitions."""
    expected = {(each.schema_name, each.name): each.rows for each in facts.tables}
    if facts.large_objects.count:
        expected[LARGE_OBJECTS] = facts.large_objects.count
    content = {LARGE_OBJECTS: Content("not compared", UNREAD), **content}
    refers = referring(rules)
    found = []
    for key in sorted(tables.keys() | expected.keys()):
        table, then = tables.get(key), expected.get(key)
        if key[0].startswith(OURS):
            continue
        if table is not None and key not in expected and (table.partitioned or table.root in expected):
            continue
        seen = content.get(key)
        if table is not None and seen is not None and seen.rows is not None:
            table = replace(table, rows=seen.rows, exact=True)
        since = None
        if table is not None and then is not None and place is not None and place < len(table.since):
            since = table.since[place]
        state = None if seen is None or then is None else "changed" if since else seen.state
        found.append(
            TableLoss(
                schema_name=key[0],
                name=key[1],
                live_rows=table.rows if table is not None else None,
                point_rows=then,
                estimated=table is not None and not table.exact,
                written_since=since,
                by=table.by or None if table is not None and since is not None else None,
                content=state,
                why=seen.why if seen is not None else "",
                unreadable=table.unreadable if table is not None else "",
                columns_lost=seen.columns_lost if seen is not None else (),
                columns_back=seen.columns_back if seen is not None else (),
                references=refers(Relation(*key), table.columns) if table is not None else (),
                referenced=seen.referenced if seen is not None else None,
            ).model_copy(update=_rows(table, then, seen))
        )
    return tuple(found)


def _rows(table: LiveTable | None, then: int | None, seen: Content | None) -> dict[str, int | None]:
    """The numbers of differing rows, as far as they are known."""
    if table is None:
        return {"lost": 0, "returns": then, "changed": 0, "referenced": 0}
    if then is None and table.exact and not table.unreadable:
        return {"lost": table.rows, "returns": 0, "changed": 0}
    if seen is None:
        return {}
    return {"lost": seen.lost, "returns": seen.returns, "changed": seen.changed}
