"""The roles that lastgood made on a server."""

from __future__ import annotations

from lastgood.postgres.server import Connection


def roles(connection: Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'lastgood%'")]
