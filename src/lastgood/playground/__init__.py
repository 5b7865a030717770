"""A playground: a private PostgreSQL server with a small CRM, and a shell whose commands use only this server.

``python -m lastgood.playground`` starts both, and removes everything when the shell ends. The tutorial uses it.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib import resources
from pathlib import Path

from psycopg import sql

from lastgood.postgres import embedded
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from lastgood.process import run

LIVE = "crm"
# As on a production server, so that timings are realistic.
_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_HELLO = """\
A private PostgreSQL {major} server is running, with a small CRM in the database "{live}". In this shell, lastgood, psql
and pg_dump connect only to this server. Leave the shell with `exit`: the server and its data are then removed.
"""


def fill(target: Target) -> None:
    """Create the CRM in a new database on ``target``'s server. Raises psycopg.Error."""
    with target.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(LIVE)))
    with target.at(LIVE).connect() as connection:
        connection.execute(resources.files(__package__).joinpath("crm.sql").read_bytes())


def forget_others() -> None:
    """Remove the variables that name another server or database from this process's environment."""
    for name in list(os.environ):
        if name.startswith(("PG", "LASTGOOD_")) or name == "DATABASE_URL":
            del os.environ[name]


def environment(server: EmbeddedServer) -> dict[str, str]:
    """Return the variables that direct PostgreSQL's programs and lastgood to this server."""
    programs = (Path(sys.executable).parent, server.bin, os.environ.get("PATH", os.defpath))
    return {
        "PATH": os.pathsep.join(map(str, programs)),
        "PGHOST": str(server.folder),
        "PGPORT": "5432",
        "PGUSER": embedded.SUPERUSER,
        "PGDATABASE": LIVE,
    }


def play(command: list[str]) -> int:
    """Run ``command``, or the user's shell, in a temporary folder with a private server, and return its status.

    Removes variables for other servers. Raises RuntimeError if the server cannot be started, OSError if the shell
    cannot.
    """
    forget_others()
    with tempfile.TemporaryDirectory(prefix="lastgood-playground-") as folder, _server() as server:
        fill(server.target("postgres"))
        if not command:
            sys.stderr.write(_HELLO.format(major=server.major, live=LIVE))
            command = [os.environ.get("SHELL") or "/bin/sh"]
        state = {"LASTGOOD_STATE": str(Path(folder) / ".lastgood")}
        return run.run_in_foreground(command, environment={**environment(server), **state}, folder=Path(folder))


def _server() -> EmbeddedServer:
    newest = max(embedded.available(), default=18)
    return EmbeddedServer(newest, settings=_DURABLE)
