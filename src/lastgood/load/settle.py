"""The planner's statistics that a load gathers last: of small tables, inheritance trees and views."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial

import psycopg
from psycopg import sql

from lastgood.dump.names import Relation
from lastgood.load import rows
from lastgood.load.session import LoadSession
from lastgood.load.work import Job
from lastgood.postgres import statistics

ANALYZE_AT_ONCE = 40

# Relations whose statistics are not gathered with their rows: inheritance trees, views, small tables, and those with
# an index or a statistics object that lacks them.
_WITHOUT_STATISTICS = """
SELECT n.nspname, c.relname,
       EXISTS (SELECT FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname),
       {reads_foreign}
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND (c.relkind = 'p' OR (c.relkind = 'm' AND c.relispopulated)
       OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = c.oid)
       OR EXISTS (SELECT FROM pg_catalog.pg_statistic_ext s
                  JOIN pg_catalog.pg_namespace sn ON sn.oid = s.stxnamespace
                  WHERE s.stxrelid = c.oid
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stats_ext x
                                    WHERE x.statistics_schemaname = sn.nspname AND x.statistics_name = s.stxname))
       OR EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                  WHERE i.indrelid = c.oid AND i.indexprs IS NOT NULL
                    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stats s
                                    WHERE s.schemaname = n.nspname AND s.tablename = x.relname))
       OR pg_catalog.pg_stat_get_last_analyze_time(c.oid) IS NULL)
  AND (%(within)s::text[] IS NULL OR n.nspname = ANY (%(within)s))
ORDER BY c.relpages DESC
"""


def settle(sessions: Sequence[LoadSession], job: Job) -> None:
    """Gather the planner's statistics that were not gathered with the rows."""
    query = sql.SQL(_WITHOUT_STATISTICS).format(reads_foreign=sql.SQL(statistics.READS_FOREIGN))
    # The server may have refused the dump's statistics: older servers lack the functions.
    within = job.schemas
    found = [
        (Relation(schema, name), reads_foreign)
        for schema, name, some, reads_foreign in sessions[0].connection.execute(query, {"within": within}).fetchall()
        if not (some and job.has_statistics(Relation(schema, name)))
    ]
    for relation in (relation for relation, reads_foreign in found if reads_foreign):
        job.caution(f"the planner has no statistics of {relation}: {statistics.FOREIGN}")
    left = deque(relation for relation, reads_foreign in found if not reads_foreign)
    share = max(1, min(ANALYZE_AT_ONCE, len(left) // len(sessions)))
    lock = threading.Lock()
    small = job.small_tables()
    job.tracker.statistics(len(left), sum(relation in small for relation in left))

    def work(session: LoadSession) -> None:
        while not job.context.cancelled():
            with lock:
                relations = [left.popleft() for _ in range(min(share, len(left)))]
            if not relations:
                return
            done = partial(job.tracker.analyzed, len(relations), sum(relation in small for relation in relations))
            began = time.monotonic()
            names = sql.SQL(", ").join(map(rows.identifier, relations))
            with suppress(psycopg.Error):  # on failure: one by one, to report which table failed, and why
                session.connection.execute(sql.SQL("ANALYZE {}").format(names))
                done(time.monotonic() - began)
                continue
            for relation in relations:
                job.analyze(session, relation, 0)
            done(time.monotonic() - began)

    with ThreadPoolExecutor(len(sessions), thread_name_prefix="lastgood-analyze") as pool:
        list(pool.map(work, sessions))
