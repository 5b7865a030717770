"""The data that a rollback removes, table by table: the live database now, compared with the restore point's facts.

The live database is no reference (it is broken, which is why it is rolled back); it is only read to show the
difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import psycopg
from psycopg import IsolationLevel, sql

from lastgood.facts import Facts
from lastgood.loss.content import Content, Limit, Reader
from lastgood.loss.extensions import configuration, with_extensions
from lastgood.loss.rows import Sides, with_rows
from lastgood.loss.settled import settled
from lastgood.loss.tables import LARGE_OBJECTS, Key, LiveTable, Then, counted, listing
from lastgood.members import UndumpedRows
from lastgood.plan.plan import TableLoss
from lastgood.postgres.errors import message_of
from lastgood.postgres.server import Connection
from lastgood.postgres.sessions import locked_tables

__all__ = [
    "Content",
    "Key",
    "Limit",
    "LiveTable",
    "Reader",
    "Sides",
    "Then",
    "counted",
    "listing",
    "losses",
    "settled",
    "table_losses",
]

COUNT_SECONDS = 60.0
# A table that another session has locked (an open migration) must not block the plan.
LOCK_TIMEOUT = "2s"
# Classes of SQLSTATE: damaged data, and files that the server can't read.
DAMAGE = ("XX", "58")
UNREAD = "large objects are compared with the emergency backup"
# Our own lists of deferred work.
OURS = "lastgood_"


def losses(
    live: Connection,
    then: Then,
    seconds: float = 0.0,
    cancelled: Callable[[], bool] = lambda: False,
    *,
    held: Sequence[UndumpedRows] = (),
    sides: Sides | None = None,
) -> tuple[TableLoss, ...]:
    """One entry for each table of either side that carries rows, and for each of ``held``: tables of extensions with
    rows that no dump holds. With ``sides``, the rows of tables with other content are counted exactly in the time that
    is left. The server's estimate replaces a count that takes more than a minute, and the count of a
    table that is damaged or locked against readers. Content is compared for ``seconds`` at most. ``live`` is put into
    one read-only snapshot. Raises psycopg.Error, Interrupted."""
    assert then.facts is not None
    live.isolation_level = IsolationLevel.REPEATABLE_READ
    live.read_only = True

    def unreadable(key: Key, error: psycopg.Error) -> str:
        if (error.sqlstate or "")[:2] not in DAMAGE:
            raise error
        return message_of(error)

    with live.transaction():
        live.execute("SET LOCAL row_security = off")
        live.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(LOCK_TIMEOUT))
        shut = {(each.schema, each.name) for each in locked_tables(live)}
        tables, stamps = listing(live)
        tables = counted(live, tables, stamps, [then], shut=shut, seconds=lambda: COUNT_SECONDS, trouble=unreadable)
        of_extensions = configuration(live, {(each.schema_name, each.name): each for each in then.facts.tables})
        tables |= {key: table for key, (table, _) in of_extensions.items()}
        limit = Limit.of(seconds)
        content = Reader(live, limit, cancelled).compare(tables, then.facts, shut)
        found = table_losses(tables, then.facts, 0, content)
        if sides is not None and seconds:
            found = with_rows(found, live, sides, limit, cancelled)
    outside = {key: more for key, (_, more) in of_extensions.items()}
    return tuple(sorted(with_extensions(found, outside, held), key=lambda each: (each.schema_name, each.name)))


def table_losses(
    tables: Mapping[Key, LiveTable], facts: Facts, place: int | None, content: Mapping[Key, Content]
) -> tuple[TableLoss, ...]:
    """The loss of each table, by schema and name. ``place``: the position of the restore point in ``LiveTable.since``,
    None where later rows were not counted. For a partitioned table, the entries are those of the restore point: the
    table or its partitions."""
    expected = {(each.schema_name, each.name): each.rows for each in facts.tables}
    if facts.large_objects.count:
        expected[LARGE_OBJECTS] = facts.large_objects.count
    content = {LARGE_OBJECTS: Content("not compared", UNREAD), **content}
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
        found.append(
            TableLoss(
                schema_name=key[0],
                name=key[1],
                live_rows=table.rows if table is not None else None,
                point_rows=then,
                estimated=table is not None and not table.exact,
                written_since=since,
                by=table.by or None if table is not None and since is not None else None,
                content=None if seen is None else seen.state if not since else "changed",
                why=seen.why if seen is not None else "",
                unreadable=table.unreadable if table is not None else "",
            ).model_copy(update=_settled_rows(table, then, seen))
        )
    return tuple(found)


def _settled_rows(table: LiveTable | None, then: int | None, seen: Content | None) -> dict[str, int | None]:
    """The numbers of differing rows that are known without comparing rows."""
    if table is None:
        return {"lost": 0, "returns": then, "changed": 0}
    if then is None and table.exact and not table.unreadable:
        return {"lost": table.rows, "returns": 0, "changed": 0}
    if seen is not None and seen.state == "equal":
        return {"lost": 0, "returns": 0, "changed": 0}
    return {}
