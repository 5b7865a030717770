"""The servers that are measured on: small, durable production servers, for as long as a measurement takes."""

from __future__ import annotations

from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer

# Like a small production server: durable, with some memory. Everything that is compared runs on it.
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
    """Makes an empty database."""
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))


def drop(server: EmbeddedServer, name: str) -> None:
    """Drops a database, and writes all that is dirty, so that the next run does not pay for it."""
    with server.target("postgres").connect() as admin:
        admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute("CHECKPOINT")
