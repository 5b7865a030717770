"""Every kind of index and key that can or cannot be deferred (fixtures/deferrable.sql), and their state."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Connection

_SHOP = Path(__file__).parents[1] / "fixtures" / "deferrable.sql"

# Everything that could differ between a database that was finished later and one that was restored at once.
_CATALOGUE = """
SELECT 'index', c.oid::regclass::text, pg_get_indexdef(c.oid), i.indisvalid, i.indisready, i.indisclustered,
       i.indisreplident, obj_description(c.oid, 'pg_class'), c.reloptions::text, pg_get_userbyid(c.relowner),
       (SELECT array_agg(coalesce(a.attstattarget, -1) ORDER BY a.attnum)::text FROM pg_attribute a
        WHERE a.attrelid = c.oid),
       c.relispartition, (SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = c.oid)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT 'constraint', format('%s on %s', k.conname, k.conrelid::regclass), pg_get_constraintdef(k.oid), k.convalidated,
       k.condeferrable, k.condeferred, k.conparentid <> 0, obj_description(k.oid, 'pg_constraint'), k.contype::text,
       NULL, NULL, NULL, NULL
FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
UNION ALL
SELECT 'schema', nspname, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM pg_namespace
WHERE nspname !~ '^pg_'
ORDER BY 1, 2, 3
"""


def fill(server: EmbeddedServer, name: str) -> None:
    """Makes the shop in an empty database."""
    target, _ = server.target(name).child()
    done = subprocess.run(
        [server.bin / "psql", "-v", "ON_ERROR_STOP=1", "-qd", target, "-f", _SHOP], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def dump(server: EmbeddedServer, name: str, *options: str) -> bytes:
    """The output of the server's own pg_dump."""
    target, _ = server.target(name).child()
    return subprocess.run([server.bin / "pg_dump", "-d", target, *options], capture_output=True, check=True).stdout


def catalogue(connection: Connection) -> list[tuple[object, ...]]:
    """Its indexes, constraints and schemas."""
    return [tuple(row) for row in connection.execute(_CATALOGUE.encode())]
