"""Real dumps of one rich database (fixtures/kinds_of_objects.sql), made once for each server and set of options."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from lastgood.postgres.embedded import EmbeddedServer

NAME = "rich src"
_RICH = Path(__file__).parents[1] / "fixtures" / "kinds_of_objects.sql"
_made: dict[tuple[str, tuple[str, ...]], bytes] = {}


class Text:
    """A dump in memory, given in chunks of ``size`` bytes."""

    def __init__(self, text: bytes, size: int = 1 << 18) -> None:
        self.text = text
        self._size = size

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(self.text), self._size):
            yield self.text[start : start + self._size]


def run(server: EmbeddedServer, program: str, *arguments: str | Path) -> None:
    """Runs one of the server's own client programs, which must succeed."""
    done = subprocess.run([server.bin / program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def make_database(server: EmbeddedServer) -> None:
    """The rich database, its role and its database-level properties, unless they exist."""
    with server.target("postgres").connect() as connection:
        if connection.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).fetchone() is not None:
            return
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'rich_app'").fetchone() is None:
            connection.execute("CREATE ROLE rich_app")
        connection.execute('CREATE DATABASE "rich src" TEMPLATE template0')
        connection.execute("COMMENT ON DATABASE \"rich src\" IS 'mine'")
        connection.execute("ALTER DATABASE \"rich src\" SET work_mem = '9MB'")
        connection.execute("ALTER ROLE rich_app IN DATABASE \"rich src\" SET statement_timeout = '5s'")
        connection.execute('GRANT CONNECT ON DATABASE "rich src" TO rich_app')
    target, _ = server.target(NAME).child()
    run(server, "psql", "-v", "ON_ERROR_STOP=1", "-qd", target, "-f", _RICH)


def dumped(server: EmbeddedServer, options: Sequence[str] = (), *, program: str = "pg_dump") -> bytes:
    """The output of the server's own pg_dump (or pg_dumpall) with these options; archives are turned into text."""
    key = (str(server.folder), (program, *options))
    if key not in _made:
        make_database(server)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "dump"
            target, _ = server.target(NAME).child()
            run(server, program, "-d", target, "-f", path, *options)
            if any(option.startswith("-F") for option in options):
                run(server, "pg_restore", "-f", Path(folder) / "text", path)
                path = Path(folder) / "text"
            _made[key] = path.read_bytes()
    return _made[key]
