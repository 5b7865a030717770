"""The contestants: each fills an empty database from a dump, or sets the lower bound."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from bench import effort, host, measure
from bench.data.dumps import Dumps
from bench.results import Run
from demo.command import Lastgood
from lastgood.postgres.embedded import EmbeddedServer

PSQL = "psql"
LASTGOOD = "lastgood, plain"
LASTGOOD_ALL = (LASTGOOD, "lastgood, custom", "lastgood, directory")
LASTGOOD_USABLE = "lastgood usable, plain"
PG_RESTORE_2 = "pg_restore -j 2, custom"
PG_RESTORE_ALL = (PG_RESTORE_2, "pg_restore -j 3, custom", "pg_restore -j 2, directory", "pg_restore -j 3, directory")
FLOOR = "cp -r"
DATABASE = "contest"
PSQL_OPTIONS = ("-X", "-q", "-v", "ON_ERROR_STOP=1")


@dataclass(frozen=True, slots=True)
class Ring:
    """The place of a contest: the server, the dumps, and a copy of the files of a database restored from them."""

    server: EmbeddedServer
    dumps: Dumps
    files: Path
    state: Path

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment that selects the server for ``lastgood``."""
        url = self.server.url("postgres")
        return Lastgood(url, store=self.dumps.plain.parent, state=self.state).environment


def _psql(ring: Ring, *options: str) -> Run:
    server = ring.server
    return _into_empty(ring, server.bin / "psql", *PSQL_OPTIONS, *options, "-f", ring.dumps.plain, server.url(DATABASE))


def _pg_restore(ring: Ring, jobs: int, form: Callable[[Dumps], Path]) -> Run:
    server = ring.server
    return _into_empty(
        ring, server.bin / "pg_restore", "-e", "-j", str(jobs), "-d", server.url(DATABASE), form(ring.dumps)
    )


def _lastgood(ring: Ring, form: Callable[[Dumps], Path], *options: str) -> Run:
    return _ran(
        ring, sys.executable, "-m", "lastgood", "restore", form(ring.dumps), "--into", DATABASE, *options, "--json"
    )


def _usable(ring: Ring) -> Run:
    """Until the database is in service; the work finished afterwards counts as effort, but not as waiting time."""
    done = _lastgood(ring, attrgetter("plain"), "--reopen-when", "usable")
    return done.model_copy(update={"seconds": round(done.seconds - done.parts.get("finish", 0.0), 3)})


def _copied(ring: Ring) -> Run:
    with tempfile.TemporaryDirectory(dir=ring.files.parent) as folder:
        return _ran(ring, "cp", "-r", ring.files, folder)


def _into_empty(ring: Ring, *arguments: str | Path) -> Run:
    # Not measured with these; lastgood makes its database itself.
    host.create(ring.server, DATABASE)
    return _ran(ring, *arguments)


def _ran(ring: Ring, *arguments: str | Path) -> Run:
    with effort.of_server(ring.server) as server:
        done = measure.run(arguments, environment=ring.environment)
    parts = json.loads(done.output)["seconds"] if done.output.startswith(b"{") else {}
    return Run(
        seconds=round(done.seconds, 3),
        peak=done.peak,
        client=round(done.processor, 2),
        server=round(server.processor, 2),
        wal=server.wal,
        parts=parts,
    )


# pg_restore reads uncompressed archives fastest; directories are compressed, which is pg_dump's default.
CONTESTANTS: Mapping[str, Callable[[Ring], Run]] = {
    PSQL: _psql,
    "psql -1": lambda ring: _psql(ring, "-1"),
    PG_RESTORE_2: partial(_pg_restore, jobs=2, form=attrgetter("uncompressed")),
    "pg_restore -j 3, custom": partial(_pg_restore, jobs=3, form=attrgetter("uncompressed")),
    "pg_restore -j 2, directory": partial(_pg_restore, jobs=2, form=attrgetter("folder")),
    "pg_restore -j 3, directory": partial(_pg_restore, jobs=3, form=attrgetter("folder")),
    LASTGOOD: partial(_lastgood, form=attrgetter("plain")),
    LASTGOOD_USABLE: _usable,
    "lastgood, custom": partial(_lastgood, form=attrgetter("uncompressed")),
    "lastgood, directory": partial(_lastgood, form=attrgetter("folder")),
    FLOOR: _copied,
}


def kept_files(server: EmbeddedServer, dumps: Dumps, folder: Path) -> Path:
    """A copy of the files of a database restored from the plain dump, all of them written out, for measuring ``cp -r``.
    Raises ProgramFailed."""
    host.create(server, DATABASE)
    measure.run([server.bin / "psql", *PSQL_OPTIONS, "-f", dumps.plain, server.url(DATABASE)])
    with server.target(DATABASE).connect() as connection:
        connection.execute("CHECKPOINT")
        (oid,) = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone() or (0,)
    copy = shutil.copytree(server.data / "base" / str(oid), folder / "database")
    host.drop(server, DATABASE)
    return copy
