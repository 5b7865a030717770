"""Which indexes can wait: judged by what the live database's own statistics say of their use.

Where an application is waiting, unsure means in use: an index too many costs minutes once, one too few may bring the
application down again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from lastgood.dump.deferral import Deferrable, Division
from lastgood.dump.names import Relation
from lastgood.postgres.server import Connection

# Younger than this, the statistics may lack what runs once a week.
YOUNG = timedelta(days=7)

_SCANS = "SELECT schemaname, indexrelname, idx_scan FROM pg_catalog.pg_stat_user_indexes"
# A crash of the server forgets everything; that shows in what it writes itself.
_SINCE = """
SELECT clock_timestamp() - greatest(d.stats_reset, w.stats_reset)
FROM pg_catalog.pg_stat_database d, pg_catalog.pg_stat_bgwriter w WHERE d.datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Choice:
    """What waits, and what the operator should know of how that was found out."""

    division: Division
    remarks: tuple[str, ...] = ()


def choose(live: Connection, deferrable: Deferrable, *, replaces: bool, allow_orphans: bool = False) -> Choice:
    """What of a dump can wait while ``live``, a connection to the live database, knows which indexes are used: those
    that were scanned since its statistics began.

    ``replaces``: the application goes straight over from the live database to the new one. Then an index counts as
    used also when the live database has none of that name, and when no index at all was ever scanned there. A
    database that nobody works with yet is wanted early: there, what is not known to be used waits. Where rows without
    a match are allowed, the foreign keys do not wait: the load sees to them. Raises psycopg.Error.
    """
    major = live.info.server_version // 10000
    candidates = deferrable.divide((), server_major=major).indexes
    scans = {Relation(schema, name): int(count or 0) for schema, name, count in live.execute(_SCANS)}
    used = {index for index in candidates if scans.get(index, int(replaces))}
    remarks = []
    if candidates and not any(scans.values()):
        used = set(candidates) if replaces else set()
        remarks.append(
            f'no index of "{live.info.dbname}" was used since its statistics began, so that they tell nothing: '
            f"{len(candidates)} that could wait are built {'before' if replaces else 'after'} the reopening"
        )
    elif len(used) < len(candidates):
        row = live.execute(_SINCE).fetchone()
        if row is not None and row[0] is not None and row[0] < YOUNG:
            hours = int(row[0].total_seconds() // 3600)
            age = f"{hours} hours" if hours != 1 else "1 hour"
            remarks.append(
                f'the statistics of "{live.info.dbname}" are {age} old: an index that is used more seldom than that is '
                "built after the reopening"
            )
    return Choice(deferrable.divide(used, server_major=major, keys_too=not allow_orphans), tuple(remarks))


def built(shadow: Connection, deferrable: Deferrable, *, allow_orphans: bool = False) -> Division:
    """What was put off when another process built the shadow: what is not there."""
    candidates = deferrable.divide(()).indexes
    major = shadow.info.server_version // 10000
    return deferrable.divide(_existing(shadow, candidates), server_major=major, keys_too=not allow_orphans)


def _existing(connection: Connection, candidates: Collection[Relation]) -> set[Relation]:
    rows = connection.execute("SELECT schemaname, indexname FROM pg_catalog.pg_indexes").fetchall()
    return {Relation(schema, name) for schema, name in rows} & set(candidates)
