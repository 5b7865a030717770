"""Snapshots older than the staging schemas: such a transaction would find empty tables after the swap.

A table's rows are invisible to a snapshot taken before they were written, and SET SCHEMA does not change that: a dump
that began before the build would be empty without any error. So the swap waits for these transactions to end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from lastgood.errors import Interrupted, Refused
from lastgood.in_place.marks import SchemaMark
from lastgood.postgres.server import Connection, only_row

POLL_SECONDS = 0.5

# A transaction that began after the last write has a newer snapshot, whatever its xmin: an old open writer holds the
# xmin of all snapshots back.
_OLDER = """
SELECT pid, usename, application_name, xact_start, state FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL
  AND backend_type IN ('client backend', 'walsender', 'parallel worker', 'background worker')
  AND age(backend_xmin) > age(%s::text::xid) AND (xact_start IS NULL OR xact_start < %s)
ORDER BY xact_start
"""
_HIDDEN = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query = '<insufficient privilege>'
"""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session of the server, as far as this role may see it. ``since``: the start of its transaction."""

    pid: int
    user: str
    application: str
    since: datetime | None
    state: str

    def __str__(self) -> str:
        application = f' "{self.application}"' if self.application else ""
        since = f", in a transaction since {self.since:%Y-%m-%d %H:%M:%S %Z}" if self.since is not None else ""
        return f'process {self.pid}{application} of role "{self.user}"{since}'


def session(
    pid: int, user: str | None, application: str | None, since: datetime | None, state: str | None
) -> OpenSession:
    """Return a session from columns of pg_stat_activity: NULL for background processes and for lack of rights."""
    return OpenSession(pid, user or "", application or "", since, state or "")


def older(connection: Connection, marks: Iterable[SchemaMark]) -> list[OpenSession]:
    """The sessions of this database whose snapshot is older than the last write to staging. Needs pg_monitor for other
    roles' sessions (``hidden``)."""
    found: dict[int, OpenSession] = {}
    for mark in marks:
        if mark.written is None:
            continue
        for row in connection.execute(_OLDER, [mark.written % 2**32, mark.made_at]):
            found[row[0]] = session(*row)
    return list(found.values())


def hidden(connection: Connection) -> int:
    """The number of sessions of this database whose snapshots this role may not see."""
    row = only_row(connection, _HIDDEN)
    return int(row[0])


def refused(found: Sequence[OpenSession]) -> Refused:
    """The refusal of a switch while sessions have older snapshots."""
    return Refused(
        "cannot switch: these transactions are older than the restored tables and would see them empty: "
        + "; ".join(str(each) for each in found),
        hint=f"Wait for them, or terminate them: SELECT pg_terminate_backend({found[0].pid})",
    )


def wait(
    connection: Connection,
    marks: Iterable[SchemaMark],
    *,
    seconds: float,
    waiting: Callable[[list[OpenSession]], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> None:
    """Wait until no snapshot is older than the last write to staging. ``waiting`` is called whenever the sessions in
    the way change. Raises Refused after ``seconds``, Interrupted."""
    staged = list(marks)
    deadline = time.monotonic() + seconds
    before: list[OpenSession] = []
    while found := older(connection, staged):
        if found != before:
            waiting(found)
            before = found
        if cancelled():
            raise Interrupted("interrupted while waiting for older snapshots")
        if time.monotonic() > deadline:
            raise refused(found)
        time.sleep(POLL_SECONDS)  # nothing announces the end of another session's transaction
