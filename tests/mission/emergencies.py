"""What the tests of the four emergencies are staged with: the CRM, the old deployment's backups, and a folder of its
own to look around in."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.support.waiting import until
from tests.traps.stage import Stage


def staged(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """A live database with the CRM, and a backup that the old deployment made of it. Nobody's home is looked into."""
    look_around_in(tmp_path, monkeypatch)
    return made(server, new_database("crm"), tmp_path)


def look_around_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lastgood looks into is there, and nothing that it inherits names a database."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder / "home"))
    for name in [name for name in os.environ if name.startswith(("PG", "LASTGOOD_")) or name == "DATABASE_URL"]:
        monkeypatch.delenv(name)


def made(server: EmbeddedServer, database: str, tmp_path: Path) -> Stage:
    """The CRM in an empty database, and a backup of it in the project of a folder."""
    backups = tmp_path / "project" / "backups" / "migrations"
    stage = Stage.made(server, database, backups, tmp_path / "state")
    # A program started elsewhere would look elsewhere.
    stage.lastgood.environment["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    return stage


ROOT = Path(__file__).parents[2]


def rows(stage: Stage, *table: str) -> int:
    """How many rows a table of the live database has; 0 when it is not there."""
    with stage.target.connect() as connection:
        name = sql.Identifier(*table)
        (there,) = connection.execute(
            "SELECT to_regclass(%s) IS NOT NULL", [name.as_string(connection)]
        ).fetchone() or (False,)
        if not there:
            return 0
        (count,) = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(name)).fetchone() or (0,)
        return int(count)


def restore_killed_half_way(stage: Stage) -> None:
    """``psql "$URL" < backup.sql``, and psql is killed when half of the tables have their rows."""
    text = stage.dump.read_bytes()
    half = text.index(b"\nCOPY public.opportunities ")
    psql = subprocess.Popen(
        [stage.server.bin / "psql", "--no-psqlrc", stage.url],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    assert psql.stdin is not None
    # A little more, so that the position is within the rows of the next table.
    psql.stdin.write(text[: half + 200])
    psql.stdin.flush()
    until(lambda: rows(stage, "public", "contacts") == stage.size.contacts, "the contacts are there")
    os.kill(psql.pid, signal.SIGKILL)
    psql.wait()
    psql.stdin.close()
    until(lambda: not _sessions(stage), "the server has noticed")


def _sessions(stage: Stage) -> int:
    with stage.server.target("postgres").connect() as connection:
        (count,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'psql'"
        ).fetchone() or (0,)
        return int(count)
