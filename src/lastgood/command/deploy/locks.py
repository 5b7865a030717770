"""The table locks of a migration and their duration, observed from another session while it runs on a clone."""

from __future__ import annotations

import time
from collections.abc import Iterable

from lastgood.command.deploy.trial_report import HeldLock
from lastgood.postgres.server import Connection

# The sessions that each mode blocks.
BLOCKS = {
    "AccessExclusiveLock": "readers and writers",
    "ExclusiveLock": "writers",
    "ShareRowExclusiveLock": "writers",
    "ShareLock": "writers",
}
# Sizes from the catalogue, because pg_relation_size would wait for the observed lock.
_HELD = """
SELECT c.oid::int8, n.nspname, c.relname, l.mode, c.relpages::int8 * pg_catalog.current_setting('block_size')::int8,
       greatest(c.reltuples, 0)::int8
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE l.locktype = 'relation' AND l.granted AND l.mode = ANY (%s) AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND c.relkind IN ('r', 'p', 'm') AND n.nspname !~ '^pg_'
"""
_TABLES = "SELECT oid::int8 FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'm')"


class Locks:
    """The observed locks. ``before``: a connection to the clone, before the migration."""

    def __init__(self, before: Connection) -> None:
        self._there = {int(oid) for (oid,) in before.execute(_TABLES)}
        self._seen: dict[tuple[int, str], tuple[float, float, HeldLock]] = {}

    def sample(self, connection: Connection) -> None:
        """Take one sample, from a session in the clone."""
        now = time.monotonic()
        for oid, schema, name, mode, size, rows in connection.execute(_HELD, [list(BLOCKS)]).fetchall():
            if oid not in self._there:
                continue  # created by the migration itself
            first, _, _ = self._seen.get((oid, mode), (now, now, None))
            held = HeldLock(
                table=f"{schema}.{name}", mode=mode, blocks=BLOCKS[mode], seconds=0.0, bytes=size, rows=rows
            )
            self._seen[oid, mode] = (first, now, held)

    def found(self) -> tuple[HeldLock, ...]:
        """Return the locks, longest first."""
        held = [lock.model_copy(update={"seconds": round(last - first, 3)}) for first, last, lock in self._all()]
        return tuple(sorted(held, key=lambda each: (-each.seconds, each.table)))

    def _all(self) -> Iterable[tuple[float, float, HeldLock]]:
        return self._seen.values()
