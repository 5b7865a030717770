"""Counts from the text of COPY, for tables whose definitions run code when a query over them is planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg import sql

from lastgood.facts.moments import moment
from lastgood.facts.row_stream import copy_blocks
from lastgood.loss.written import Clock, Column
from lastgood.postgres.server import Connection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Since:
    """The moment after which rows count: that of the restore point, and its newest row as COPY text, if known.
    ``exact``: the moment is the server's own time."""

    made_at: datetime
    newest: str | None
    exact: bool


def count(
    connection: Connection,
    table: sql.Identifier,
    column: str | None,
    by: Column | None,
    clock: Clock,
    since: Sequence[Since],
) -> tuple[int, datetime | None, tuple[int, ...]]:
    """The rows, the newest time of ``by`` that is not in the future, and the rows written after each of ``since``: what
    ``written_after`` counts. ``column`` is read without ``by``, None in a table without columns. Needs a transaction.
    Raises psycopg.Error."""
    connection.execute("SET LOCAL TimeZone = 'UTC'")
    read = by.name if by is not None else column
    columns = sql.SQL(" ({})").format(sql.Identifier(read)) if read is not None else sql.SQL("")
    copy = sql.SQL("COPY {}{} TO STDOUT").format(table, columns).as_bytes(connection)
    rows = 0
    newest: int | None = None
    counts = [0] * len(since)
    until = _until(by, clock)
    limits = [_limit(each, by, until) for each in since]
    for block in copy_blocks(connection, copy):
        lines = block.split(b"\n")
        rows += len(lines) - 1
        if by is None:
            continue
        for line in lines:
            value = moment(line.decode("ascii", "replace"))
            if value is None or value.microseconds > until:
                continue  # NULL, infinite or in the future
            newest = value.microseconds if newest is None else max(newest, value.microseconds)
            for place, limit in enumerate(limits):
                counts[place] += value.microseconds > limit
    return rows, _time(newest), tuple(counts)


def _until(by: Column | None, clock: Clock) -> int:
    return _microseconds(clock.now if by is None or by.zoned else clock.local)


def _limit(since: Since, by: Column | None, until: int) -> int:
    made = _microseconds(since.made_at)
    newest = moment(since.newest) if since.newest is not None else None
    if newest is None:
        return made
    latest = made if since.exact and by is not None and by.zoned else until
    return newest.microseconds if newest.microseconds <= latest else made


def _microseconds(at: datetime) -> int:
    """Since 1970: in UTC, or without a time zone."""
    return (at.replace(tzinfo=at.tzinfo or UTC) - _EPOCH) // _MICROSECOND


def _time(microseconds: int | None) -> datetime | None:
    try:
        return None if microseconds is None else _EPOCH + microseconds * _MICROSECOND
    except OverflowError:
        return None
