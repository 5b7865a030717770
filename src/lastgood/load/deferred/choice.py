"""The choice of indexes to defer, based on the live database's statistics of their use.

While an application waits, an index of unknown use counts as used: an unneeded index costs minutes once, a missing one
may bring the application down again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta

from lastgood.dump.deferral import Deferrable, Division
from lastgood.dump.names import Relation
from lastgood.postgres.server import Connection
from lastgood.text.units import counted

# Younger statistics may lack queries that run once a week.
YOUNG = timedelta(days=7)

_SCANS = "SELECT schemaname, indexrelname, idx_scan FROM pg_catalog.pg_stat_user_indexes"
# A server crash resets all statistics, which shows in the background writer's.
_SINCE = """
SELECT clock_timestamp() - greatest(d.stats_reset, w.stats_reset)
FROM pg_catalog.pg_stat_database d, pg_catalog.pg_stat_bgwriter w WHERE d.datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Deferral:
    """The deferred work, and remarks for the operator about its choice."""

    division: Division
    remarks: tuple[str, ...] = ()


def choose(live: Connection, deferrable: Deferrable, *, replaces: bool, allow_orphans: bool = False) -> Deferral:
    """Choose the deferred part of a dump. ``live``, a connection to the live database, shows which indexes are used:
    those that were scanned since its statistics were reset.

    ``replaces``: the application switches directly from the live database to the new one. Then an index also counts as
    used if the live database has no index of that name, or if no index was ever scanned there. A database without users
    yet should be available early: its indexes are deferred unless they are known to be used. If ``allow_orphans`` is
    set, foreign keys are not deferred: the load adds them. Raises psycopg.Error.
    """
    major = live.info.server_version // 10000
    candidates = deferrable.divide((), server_major=major).indexes
    scans = {Relation(schema, name): int(count or 0) for schema, name, count in live.execute(_SCANS)}
    used = {index for index in candidates if scans.get(index, int(replaces))}
    remarks = []
    if candidates and not any(scans.values()):
        used = set(candidates) if replaces else set()
        remarks.append(
            f'no index of "{live.info.dbname}" has been used since its statistics were reset: '
            f"{counted(len(candidates), 'index', 'indexes')} that could be deferred "
            f"{'is' if len(candidates) == 1 else 'are'} built {'before' if replaces else 'after'} the reopening"
        )
    elif len(used) < len(candidates):
        row = live.execute(_SINCE).fetchone()
        if row is not None and row[0] is not None and row[0] < YOUNG:
            hours = int(row[0].total_seconds() // 3600)
            age = counted(hours, "hour")
            remarks.append(
                f'the statistics of "{live.info.dbname}" cover only {age}: an index that is used less often '
                "than that is built after the reopening"
            )
    return Deferral(deferrable.divide(used, server_major=major, keys_too=not allow_orphans), tuple(remarks))


def built(shadow: Connection, deferrable: Deferrable, *, allow_orphans: bool = False) -> Division:
    """The deferred part of a shadow that another process built: the missing indexes."""
    candidates = deferrable.divide(()).indexes
    major = shadow.info.server_version // 10000
    return deferrable.divide(_existing(shadow, candidates), server_major=major, keys_too=not allow_orphans)


def _existing(connection: Connection, candidates: Collection[Relation]) -> set[Relation]:
    rows = connection.execute("SELECT schemaname, indexname FROM pg_catalog.pg_indexes").fetchall()
    return {Relation(schema, name) for schema, name in rows} & set(candidates)
