"""Sessions that outlive the program that opened them: found, ended, and proved to be gone.

A program that was killed leaves its server processes behind: they go on with the command that they were at, may commit,
and hold locks. Its sessions are known by the name that its environment gave them (``application_name``); those that
changed it, by having been seen before they did, or by role or address and by the time at which they began.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from psycopg import sql

from lastgood.errors import Failed
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Trace:
    """By what a program's sessions are known: the ``tag`` that they were given as a name, the role that it logs in as,
    and when it began, by the server's clock. ``ours``: server processes that are not to be touched."""

    tag: str
    role: str
    began: datetime
    ours: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Outlived:
    """One session: its server process, and when that began, for processes' numbers come again."""

    pid: int
    since: datetime | None
    user: str = field(compare=False)
    application_name: str = field(compare=False)
    state: str = field(compare=False, default="")

    def __str__(self) -> str:
        return f'server process {self.pid} of "{self.user}"' + (
            f' ("{self.application_name}")' if self.application_name else ""
        )


# What a role may not see of others is NULL: then only the name counts, which everybody may see.
_FIND = """
SELECT a.pid, a.backend_start, coalesce(a.usename, ''), coalesce(a.application_name, ''), coalesce(a.state, '')
FROM pg_catalog.pg_stat_activity a
WHERE a.pid <> ALL ({ours}::int[]) AND a.pid <> pg_catalog.pg_backend_pid()
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
    trace: Trace,
    seen: frozenset[Outlived] = frozenset(),
    *,
    until: datetime | None = None,
    open_until: datetime | None = None,
    anywhere: bool = False,
) -> list[Outlived]:
    """The program's sessions in the database (``anywhere``: in any of the server's, for from the maintenance database
    one can be dropped or renamed): those that bear the tag, and those of ``seen`` that are there still. With ``until``
    also any in the database that may be its own: of its role or from our own address, and begun before then; with
    ``open_until`` those of them too whose transaction began before then. ``connection`` is to the maintenance
    database."""
    known = [each for each in seen if each.since is not None]
    query = sql.SQL(_FIND).format(
        oid=sql.Literal(oid),
        ours=sql.Literal(sorted(trace.ours)),
        tag=sql.Literal(trace.tag[:63]),
        pids=sql.Literal([each.pid for each in known]),
        starts=sql.Literal([each.since for each in known]),
        role=sql.Literal(trace.role),
        began=sql.Literal(trace.began),
        over=sql.Literal(until),
        late=sql.Literal(open_until),
        anywhere=sql.Literal(anywhere),
    )
    return [Outlived(*row) for row in connection.execute(query)]


def end(
    connection: Connection,
    oid: int,
    trace: Trace,
    seen: frozenset[Outlived],
    *,
    seconds: float = 15.0,
    grace: float = 2.0,
) -> list[Outlived]:
    """Ends all that may be the program's, and returns them when the server shows none of them any more. The application
    may log in as the same role: what it opens from now on is left alone, and a session that was there before the
    program only goes when its transaction, begun meanwhile, is still open after ``grace`` seconds.

    Raises Failed, with the commands for a person, when some can't be ended.
    """
    ended: set[Outlived] = set()
    denied: set[int] = set()
    (now,) = connection.execute(_NOW).fetchone() or (trace.began,)
    began = time.monotonic()
    while True:
        patient = time.monotonic() - began < grace
        left = find(connection, oid, trace, seen, until=now, open_until=None if patient else now, anywhere=True)
        if not left and (
            not patient or not find(connection, oid, trace, seen, until=now, open_until=now, anywhere=True)
        ):
            return sorted(ended, key=lambda each: each.pid)
        for each in left:
            ended.add(each)
            try:
                connection.execute("SELECT pg_catalog.pg_terminate_backend(%s)", [each.pid])
            except psycopg.errors.InsufficientPrivilege:
                denied.add(each.pid)
        if left and (time.monotonic() - began >= seconds or all(each.pid in denied for each in left)):
            why = "this role may not end them" if denied else f"they do not end within {seconds:g} s"
            raise Failed(
                f"cannot end {counted(len(left), 'session')} that the migration may have left: {why}: "
                + ", ".join(str(each) for each in left[:5]),
                hint=f"As a superuser: SELECT pg_terminate_backend({left[0].pid})",
            )
        time.sleep(POLL_SECONDS)  # the end of a server process is announced to nobody
