"""A live database to roll back: the demo's CRM at a given scale, a dump of it in a store, and their server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import host, measure
from demo import crm
from demo.command import Lastgood
from lastgood.postgres.embedded import EmbeddedServer

LIVE = "crm"


@dataclass(frozen=True, slots=True)
class Live:
    """A running server with the CRM, and a plain dump of it in the store."""

    server: EmbeddedServer
    lastgood: Lastgood
    dump: Path
    size: crm.Size
    rows: int
    database_bytes: int

    @property
    def dump_bytes(self) -> int:
        return self.dump.stat().st_size


@contextmanager
def prepared(folder: Path, scale: float, major: int) -> Iterator[Live]:
    """The bench for the length of a ``with`` block. The same scale gives the same rows every time."""
    store = folder / "backups"
    store.mkdir()
    with EmbeddedServer(major, settings=host.SETTINGS) as server:
        host.create(server, LIVE)
        with server.target(LIVE).connect() as connection:
            size = crm.create(connection, scale)
            (size_of,) = connection.execute("SELECT pg_database_size(current_database())").fetchone() or (0,)
            (rows,) = connection.execute(
                "SELECT sum(reltuples)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text "
                "NOT IN ('pg_catalog', 'information_schema')"
            ).fetchone() or (0,)
        dump = store / "cloud_backup_20260112_093000.sql"
        measure.run([server.bin / "pg_dump", "--file", dump, server.url(LIVE)])
        lastgood = Lastgood(server.url(LIVE), store=store, state=folder / "state")
        yield Live(server, lastgood, dump, size, rows, size_of)
