"""Counts from the text of COPY, for tables whose definitions run code when a query over them is planned."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from psycopg import sql

from lastgood.facts.moments import moment
from lastgood.facts.row_stream import copy_blocks
from lastgood.loss.written import Since, WriteTime
from lastgood.postgres.server import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def count(
    connection: Connection, table: sql.Identifier, column: str | None, written: WriteTime | None
) -> tuple[int, datetime | None, tuple[int, ...]]:
    """Return the number of rows, and with ``written`` what ``WriteTime.counts`` counts. ``column`` is read without
    ``written``, None in a table without columns. Needs a transaction. Raises psycopg.Error."""
    connection.execute("SET LOCAL TimeZone = 'UTC'")
    read = written.by.name if written is not None else column
    columns = sql.SQL(" ({})").format(sql.Identifier(read)) if read is not None else sql.SQL("")
    copy = sql.SQL("COPY {}{} TO STDOUT").format(table, columns).as_bytes(connection)
    rows = 0
    newest: int | None = None
    until = _until(written) if written is not None else 0
    limits = [_limit(each, written, until) for each in written.since] if written is not None else []
    counts = [0] * len(limits)
    for block in copy_blocks(connection, copy):
        lines = block.split(b"\n")
        rows += len(lines) - 1
        if written is None:
            continue
        for line in lines:
            value = moment(line.decode("ascii", "replace"))
            if value is None or value.microseconds > until:
                continue  # NULL, infinite or in the future
            newest = value.microseconds if newest is None else max(newest, value.microseconds)
            for place, limit in enumerate(limits):
                counts[place] += value.microseconds > limit
    return rows, _time(newest), tuple(counts)


def _until(written: WriteTime) -> int:
    return _microseconds(written.clock.now if written.by.zoned else written.clock.local)


def _limit(since: Since, written: WriteTime, until: int) -> int:
    made = _microseconds(since.made_at)
    newest = moment(since.newest) if since.newest is not None else None
    if newest is None:
        return made
    latest = made if since.exact and written.by.zoned else until
    return newest.microseconds if newest.microseconds <= latest else made


def _microseconds(at: datetime) -> int:
    """Since 1970: in UTC, or without a time zone."""
    return (at.replace(tzinfo=at.tzinfo or UTC) - _EPOCH) // _MICROSECOND


def _time(microseconds: int | None) -> datetime | None:
    try:
        return None if microseconds is None else _EPOCH + microseconds * _MICROSECOND
    except OverflowError:
        return None
