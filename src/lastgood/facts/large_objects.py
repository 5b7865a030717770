"""The facts of a database's large objects."""

from __future__ import annotations

from xxhash import xxh3_128

from lastgood.facts import LargeObjectFacts
from lastgood.facts.digest import RowsDigest, large_object_line
from lastgood.postgres.server import Connection

PIECE = 1 << 20
AT_ONCE = 500


def read_large_objects(connection: Connection) -> LargeObjectFacts:
    """Read every large object in pieces; holes read as zeros, as in pg_dump."""
    oids = [row[0] for row in connection.execute("SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid")]
    digest = RowsDigest()
    # Most are smaller than a piece: one query reads many. Larger ones are continued one by one.
    first = "SELECT oid::bigint, pg_catalog.lo_get(oid, 0, %s::int) FROM unnest(%s::oid[]) oid"
    following = "SELECT pg_catalog.lo_get(%s::oid, %s::bigint, %s::int)"
    larger: list[tuple[int, xxh3_128]] = []
    for start in range(0, len(oids), AT_ONCE):
        batch = oids[start : start + AT_ONCE]
        with connection.cursor(binary=True) as cursor:
            for oid, piece in cursor.stream(first, [PIECE, batch]):
                content = xxh3_128(piece)
                if len(piece) == PIECE:
                    larger.append((oid, content))
                else:
                    digest.add(large_object_line(oid, content.hexdigest()))
    for oid, content in larger:
        position = PIECE
        with connection.cursor(binary=True) as cursor:
            while True:
                row = cursor.execute(following, [oid, position, PIECE]).fetchone()
                piece = row[0] if row is not None else b""
                content.update(piece)
                position += len(piece)
                if len(piece) < PIECE:
                    break
        digest.add(large_object_line(oid, content.hexdigest()))
    return LargeObjectFacts(count=len(oids), digest=digest.hexdigest())
