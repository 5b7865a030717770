"""The servers of the measurements: small, durable production servers that exist for one measurement."""

from __future__ import annotations

from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer

# Like a small production server: durable, with some memory. All contestants run on it.
SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "512MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "wal_level": "replica",
}


def create(server: EmbeddedServer, name: str) -> None:
    """Create an empty database."""
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def drop(server: EmbeddedServer, name: str) -> None:
    """Drop a database and write all dirty buffers, so that the next run does not pay for them."""
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute("CHECKPOINT")
