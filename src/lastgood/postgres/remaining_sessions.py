"""Sessions that outlive the program that opened them: found, terminated, and proved to be gone.

A killed program leaves its server processes behind: they finish their current command, may commit, and hold locks. Its
sessions are identified by the ``application_name`` from its environment; those that changed it, by an earlier
observation, or by role or address together with their start time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import sql

from lastgood.errors import Failed
from lastgood.postgres.server import Connection, only_row
from lastgood.text.units import counted

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ProgramTrace:
    """The identification of a program's sessions: their ``application_name`` ``tag``, the role of the program, and its
    start by the server's clock. ``own_pids``: server processes that must not be touched."""

    tag: str
    role: str
    began: datetime
    own_pids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class RemainingSession:
    """One session: its server process and the start of it, since process numbers are reused."""

    pid: int
    since: datetime | None
    user: str = field(compare=False)
    application_name: str = field(compare=False)
    state: str = field(compare=False, default="")

    def __str__(self) -> str:
        return f'server process {self.pid} of "{self.user}"' + (
            f' ("{self.application_name}")' if self.application_name else ""
        )


# Columns that a role may not see are NULL: then only the application's name counts, which every role may see.
_FIND = """
SELECT a.pid, a.backend_start, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, '')
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> ALL ({own_pids}::int[]) AND a.pid <> pg_catalog.pg_backend_pid()
  AND ((a.datid = {oid}::oid OR {anywhere})
       AND (a.application_name = {tag}
            OR (a.pid, a.backend_start) IN (SELECT * FROM unnest({pids}::int[], {starts}::timestamptz[])))
       OR (a.datid = {oid}::oid AND a.backend_type = 'client backend' AND a.application_name NOT LIKE 'lastgood %'
           AND (a.usename = {role}
                OR a.client_addr IS NOT DISTINCT FROM (SELECT s.client_addr FROM pg_catalog.pg_stat_activity s
                                                       WHERE s.pid = pg_catalog.pg_backend_pid()))
           AND (a.backend_start BETWEEN {began} AND {over} OR a.xact_start BETWEEN {began} AND {late})))
ORDER BY a.pid
"""
_NOW = "SELECT pg_catalog.clock_timestamp()"


def find(
    connection: Connection,
    oid: int,
    trace: ProgramTrace,
    seen: frozenset[RemainingSession] = frozenset(),
    *,
    until: datetime | None = None,
    open_until: datetime | None = None,
    anywhere: bool = False,
) -> list[RemainingSession]:
    """The program's sessions in the database (``anywhere``: in any database, since one can be dropped or renamed from
    the maintenance database): those with the tag, and those of ``seen`` that still exist. With ``until`` also sessions
    in the database that may be the program's: of its role or from our own address, and started before then; with
    ``open_until`` also those whose transaction started before then. ``connection`` is to the maintenance database."""
    observed = [each for each in seen if each.since is not None]
    query = sql.SQL(_FIND).format(
        oid=sql.Literal(oid),
        own_pids=sql.Literal(sorted(trace.own_pids)),
        tag=sql.Literal(trace.tag[:63]),
        pids=sql.Literal([each.pid for each in observed]),
        starts=sql.Literal([each.since for each in observed]),
        role=sql.Literal(trace.role),
        began=sql.Literal(trace.began),
        over=sql.Literal(until),
        late=sql.Literal(open_until),
        anywhere=sql.Literal(anywhere),
    )
    return [RemainingSession(*row) for row in connection.execute(query)]


def end(
    connection: Connection,
    oid: int,
    trace: ProgramTrace,
    seen: frozenset[RemainingSession],
    *,
    seconds: float = 15.0,
    grace: float = 2.0,
) -> list[RemainingSession]:
    """Terminate all sessions that may be the program's, and return them when the server shows none of them any more.
    The application may log in as the same role: sessions opened from now on are left alone, and an older session than
    the program is terminated only if its transaction, begun meanwhile, is still open after ``grace`` seconds.

    Raises Failed, with the command for the operator, when some cannot be terminated.
    """
    ended: set[RemainingSession] = set()
    denied: set[int] = set()
    (now,) = only_row(connection, _NOW)
    began = time.monotonic()
    while True:
        patient = time.monotonic() - began < grace
        remaining = find(connection, oid, trace, seen, until=now, open_until=None if patient else now, anywhere=True)
        if not remaining and (
            not patient or not find(connection, oid, trace, seen, until=now, open_until=now, anywhere=True)
        ):
            return sorted(ended, key=lambda each: each.pid)
        for each in remaining:
            ended.add(each)
            try:
                connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])
            except psycopg.errors.InsufficientPrivilege:
                denied.add(each.pid)
        if remaining and (time.monotonic() - began >= seconds or all(each.pid in denied for each in remaining)):
            reason = "this role may not terminate them" if denied else f"they did not end within {seconds:g} s"
            raise Failed(
                f"cannot terminate {counted(len(remaining), 'session')} that the migration may have left: {reason}: "
                + ", ".join(str(each) for each in remaining[:5]),
                hint=f"As a superuser, run: SELECT pg_terminate_backend({remaining[0].pid})",
            )
        time.sleep(POLL_SECONDS)  # no event announces the end of a server process
