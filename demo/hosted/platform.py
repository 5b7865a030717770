"""A server like a hosted platform's: ``supabase_admin`` is the superuser, and its customer's role ``postgres`` is none.

Roles, owners, schemas, default privileges, publications and event triggers are those that the platform documents.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from psycopg import sql

from demo import crm
from lastgood.postgres.embedded import EmbeddedServer

ADMIN = "supabase_admin"
CUSTOMER = "postgres"
_SQL = crm.SQL / "hosted"


def started(major: int, settings: Mapping[str, str] | None = None) -> EmbeddedServer:
    """Start a server with the platform's roles and, in the database ``postgres``, its schemas; close it.

    Raises RuntimeError.
    """
    server = EmbeddedServer(major, settings=settings)
    try:
        _rename_superuser(server)
        for file in ("roles.sql", "superuser.sql"):
            psql(server, "postgres", (_SQL / file).read_text(), user=ADMIN)
    except BaseException:
        server.close()
        raise
    return server


def psql(server: EmbeddedServer, database: str, text: str, *, user: str = CUSTOMER) -> None:
    """Execute a script in one transaction, which ends at the first error. Raises RuntimeError."""
    arguments = ["psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-d", server.url(database, user=user)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    done = subprocess.run(
        [str(server.bin / arguments[0]), *arguments[1:]], input=text, capture_output=True, text=True, env=environment
    )
    if done.returncode != 0:
        raise RuntimeError(f'cannot execute a script in "{database}": {done.stderr}')


def _rename_superuser(server: EmbeddedServer) -> None:
    """Give the first superuser the platform's name: it cannot lose that attribute, and no role can rename itself."""
    with server.target("postgres").connect() as connection:
        connection.execute("CREATE ROLE renaming SUPERUSER LOGIN")
    with server.target("postgres", user="renaming").connect() as connection:
        connection.execute(
            sql.SQL("ALTER ROLE {} RENAME TO {}").format(sql.Identifier(CUSTOMER), sql.Identifier(ADMIN))
        )
    with server.target("postgres", user=ADMIN).connect() as connection:
        connection.execute("DROP ROLE renaming")
