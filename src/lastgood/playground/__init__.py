"""A place to try lastgood in: a PostgreSQL of one's own with a small CRM, and a shell whose commands meet nothing else.

``python -m lastgood.playground`` starts both, and removes everything when the shell ends. The tutorial plays here.
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
# As a server that somebody relies on: what is timed here is what a user gets.
_DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
_HELLO = """\
PostgreSQL {major} is running for you alone, with a small CRM in its database "{live}". lastgood, psql and pg_dump lead
there as long as you are in this shell, and to nothing else. Leave it with `exit`: all of it is removed then.
"""


def fill(target: Target) -> None:
    """Makes the CRM in a new database of the server that ``target`` leads to. Raises psycopg.Error."""
    with target.connect() as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(LIVE)))
    with target.at(LIVE).connect() as connection:
        connection.execute(resources.files(__package__).joinpath("crm.sql").read_bytes())


def forget_others() -> None:
    """Takes out of this process's environment whatever names another server or database."""
    for name in list(os.environ):
        if name.startswith(("PG", "LASTGOOD_")) or name == "DATABASE_URL":
            del os.environ[name]


def environment(server: EmbeddedServer) -> dict[str, str]:
    """What leads every command of PostgreSQL and of lastgood to this server."""
    programs = (Path(sys.executable).parent, server.bin, os.environ.get("PATH", os.defpath))
    return {
        "PATH": os.pathsep.join(map(str, programs)),
        "PGHOST": str(server.folder),
        "PGPORT": "5432",
        "PGUSER": embedded.SUPERUSER,
        "PGDATABASE": LIVE,
    }


def play(command: list[str]) -> int:
    """Runs ``command``, or the user's shell, in a folder of its own beside a server of its own; returns its status.

    Forgets what the environment says of others. Raises RuntimeError when the server can't be started, OSError when the
    shell can't.
    """
    forget_others()
    with tempfile.TemporaryDirectory(prefix="lastgood-playground-") as folder, _server() as server:
        fill(server.target("postgres"))
        if not command:
            sys.stderr.write(_HELLO.format(major=server.major, live=LIVE))
            command = [os.environ.get("SHELL") or "/bin/sh"]
        state = {"LASTGOOD_STATE": str(Path(folder) / ".lastgood")}
        return run.in_the_foreground(command, environment={**environment(server), **state}, folder=Path(folder))


def _server() -> EmbeddedServer:
    newest = max(embedded.available(), default=18)
    return EmbeddedServer(newest, settings=_DURABLE)
