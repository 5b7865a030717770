"""Nothing of a drill stays that does not end by itself: no server, no folder, no database, no role."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from psycopg import sql

from lastgood.command.drill.place import clean_up
from lastgood.command.drill.scratch import LiveServer, given
from lastgood.context import Context
from lastgood.errors import Refused
from lastgood.events import Caution, Event, Note, silent
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.identity import Identity
from tests.cli.conftest import Lastgood
from tests.support import forked_cli
from tests.support.waiting import until


def running(folder: Path) -> list[str]:
    """The processes whose command line names something in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in words and f"/{os.getpid()}/" not in str(entry):
            found.append(words)
    return found


def begun(environment: dict[str, str], *arguments: str) -> forked_cli.Process:
    """A drill that has its server, and is at work in it."""
    child = forked_cli.Process("drill", *arguments, environment=environment)
    assert child.stderr is not None
    text = ""
    while "start   build crm" not in text:
        line = child.stderr.readline()
        assert line, text
        text += line
    return child


@pytest.mark.parametrize(
    ("how", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130)], ids=["killed", "interrupted"]
)
def test_no_server_and_no_folder(
    lastgood: Lastgood, database: str, child_environment: dict[str, str], how: int, status: int
) -> None:
    assert lastgood("backup", "--quiet").status == 0
    with scratch_folder() as scratch:
        with begun(child_environment, "--folder", str(scratch)) as child:
            assert running(scratch), "it has a server of its own"
            child.send_signal(how)
            child.communicate()
        assert child.returncode == status
        until(lambda: not running(scratch) and not list(scratch.iterdir()), "its server ends and its folder goes")
    left = sorted(Path("state/drills").glob("*/.*"))
    assert [each.name for each in left] == ([".alive", ".work"] if how == signal.SIGKILL else [])
    heard: list[Event] = []
    clean_up(Context(heard.append, state=Path("state")))
    run = next(Path("state/runs").iterdir()).stem
    assert heard == ([Note(f"drill {run} was killed; removing what it left")] if how == signal.SIGKILL else [])
    assert not list(Path("state/drills").iterdir())
    (journal,) = Path("state/runs").iterdir()
    ended = json.loads(journal.read_text(encoding="utf-8").splitlines()[-1])
    assert (ended["event"], ended["status"]) == ("ended", "killed" if how == signal.SIGKILL else "interrupted")


def test_no_database_and_no_role_on_a_server_that_was_given(server: EmbeddedServer) -> None:
    """What is found there was left by a drill that was killed with everything around it."""
    ours = {
        "crm_drill_00c0ffee": "lastgood drill 20260101-000000-00c0ffee: removed at its end, or by the next drill",
        "crm_drill_00c0ffee_utf8": "lastgood drill 20260101-000000-00c0ffee: removed at its end, or by the next drill",
        "crm_drill_00c0ffee_shadow_0badcafe": None,
    }
    others = {
        "crm_drill_00c0ffee_notes_of_mine_": None,
        "crm_drill_0badf00d": "mine",
        "crm_drill_20261123_old": None,  # a name alone proves nothing
        "crm_drill_notes": None,
    }
    with server.target("postgres").connect() as connection:
        for name, comment in (*ours.items(), *others.items()):
            database = sql.Identifier(name)
            closed = sql.SQL("false" if comment is None else "true")
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE template0 ALLOW_CONNECTIONS {}").format(database, closed)
            )
            connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(comment)))
        connection.execute("CREATE ROLE drill_left NOLOGIN")
        connection.execute("COMMENT ON ROLE drill_left IS 'lastgood drill 20260101-000000-00c0ffee: removed'")
        connection.execute("CREATE ROLE drill_mine NOLOGIN")
    elsewhere = LiveServer(
        Identity(None, datetime(2000, 1, 1, tzinfo=UTC)),
        "18",
        18,
        None,  # type: ignore[arg-type]  # not looked at
    )
    heard: list[Event] = []
    with given(server.target("postgres"), "20260102-000000-0badcafe", "crm", elsewhere, heard.append) as scratch:
        assert heard == [
            Caution(
                'database "crm_drill_20261123_old" on the scratch server may be from an interrupted drill, but is not '
                "marked as such; it was not removed"
            )
        ]
        scratch.make_roles(["drill_made", "drill_mine", "pg_of_the_future"])
        assert scratch.roles == ["drill_made"]
        assert scratch.remarks == ["predefined roles of another version of PostgreSQL: pg_of_the_future"]
        again = given(server.target("postgres"), "20260102-000000-0badcafe", "crm", elsewhere, silent)
        with pytest.raises(Refused) as refused, again:
            pass
        assert str(refused.value) == "cannot drill on that server: another drill is in progress there"
    with server.target("postgres").connect() as connection:
        left = {
            name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE datname LIKE 'crm_drill%'")
        }
        roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'drill_%'")}
        for name in others:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
        connection.execute("DROP ROLE drill_mine")
    assert left == set(others)
    assert roles == {"drill_mine"}


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """As root, a server runs as another user, who must be able to enter its folder; pytest's folder is private."""
    with TemporaryDirectory(prefix="lgt", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)
