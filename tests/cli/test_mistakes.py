"""The mistakes of an operator at night, each with the whole text that it leads to: the table is ``mistakes.toml``."""

from __future__ import annotations

import gzip
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from lastgood.errors import Refused
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.lock import lock_live, read_nothing
from lastgood.postgres.server import Target
from tests.cli.conftest import Lastgood, fill
from tests.conftest import OURS, USUAL, require
from tests.support import forked_cli
from tests.support.pooler import PORT, PgBouncer

TABLE = Path(__file__).with_name("mistakes.toml")


@dataclass(frozen=True)
class Mistake:
    """One row of the table."""

    name: str
    words: str
    status: int
    shown: str
    db: str = "postgresql://postgres@/{live}?host={socket}"
    env: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    put: dict[str, str] = field(default_factory=dict)


def table() -> list[Mistake]:
    return [Mistake(**row) for row in tomllib.loads(TABLE.read_text(encoding="utf-8"))["mistake"]]


@dataclass(frozen=True)
class Place:
    """The server, its live database, and the folder with the files that rows put into their own."""

    server: EmbeddedServer
    live: str
    given: Path

    def names(self, folder: Path) -> dict[str, Any]:
        return {
            "live": self.live,
            "LIVE": self.live.upper(),
            "socket": self.server.folder,
            "folder": folder,
        }


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server with one small database, and roles that each lack something."""
    require(USUAL)
    live = "crm"
    with EmbeddedServer(USUAL, settings=OURS) as server:
        with server.target("postgres").connect() as connection:
            for name in (live, f"shut_{live}", f"private_{live}", f"full_{live}"):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            connection.execute(
                sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(f"shut_{live}"))
            )
            connection.execute(
                sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(f"private_{live}"))
            )
            connection.execute(sql.SQL("ALTER DATABASE {} CONNECTION LIMIT 0").format(sql.Identifier(f"full_{live}")))
            connection.execute("CREATE ROLE clerk LOGIN PASSWORD 'right'")
            connection.execute("CREATE ROLE expired LOGIN PASSWORD 'right' VALID UNTIL '2020-01-01'")
            connection.execute("CREATE ROLE pete LOGIN")
            connection.execute("CREATE ROLE barred LOGIN")
            connection.execute("CREATE ROLE crm_group NOLOGIN")
            connection.execute("CREATE ROLE busy LOGIN CONNECTION LIMIT 0")
            connection.execute("CREATE ROLE visitor LOGIN")
            (rules,) = server.folder.rglob("pg_hba.conf")
            ours = "local all clerk,expired scram-sha-256\nlocal all pete peer\nlocal all barred reject\n"
            rules.write_text(f"{ours}{rules.read_text()}")
            connection.execute("SELECT pg_reload_conf()")
        fill(server, live)
        given = tmp_path_factory.mktemp("given")
        _give(server, live, given)
        yield Place(server, live, given)


def _give(server: EmbeddedServer, live: str, given: Path) -> None:
    """The files that rows of the table put into their folder."""

    def dump(name: str, *options: str) -> bytes:
        path = given / name
        subprocess.run([server.bin / "pg_dump", *options, "--file", path, server.url(live)], check=True)
        return path.read_bytes()

    good = dump("good.sql")
    dump("schema.sql", "--schema-only")
    archive = dump("good.dump", "--format=custom")
    (given / "cut.sql").write_bytes(good[: len(good) * 7 // 10])
    (given / "cut.sql.gz").write_bytes(gzip.compress(good, mtime=0)[:600])
    (given / "cut.dump").write_bytes(archive[: len(archive) * 7 // 10])
    (given / "newer.sql").write_bytes(re.sub(rb"(-- Dumped \w+ .* version )\d+", rb"\g<1>99", good))
    (given / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))


@pytest.mark.parametrize("mistake", table(), ids=lambda each: each.name)
def test_each_mistake_has_its_message_and_hint(
    mistake: Mistake, place: Place, lastgood: Lastgood, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = made(mistake, place, lastgood, tmp_path, monkeypatch)
    assert (outcome[0], outcome[1]) == (mistake.status, _filled(mistake.shown, place.names(tmp_path)))


def test_a_standby_cannot_be_rolled_back(lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch) -> None:
    require(USUAL)
    with EmbeddedServer(USUAL, settings=OURS) as server:
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE DATABASE crm")
        fill(server, "crm")
        monkeypatch.setenv("LASTGOOD_DB", server.url("crm"))
        assert lastgood("--quiet", "backup").status == 0
        server.stop()
        (server.data / "standby.signal").touch()
        server.start()
        shown = {
            words: (outcome.status, outcome.err)
            for words in ("rollback --yes", "recover --yes")
            for outcome in [lastgood("--quiet", *words.split())]
        }
    assert shown == {
        "rollback --yes": (
            3,
            'error: cannot roll back "crm": this server is in recovery (a standby, or still starting) and accepts no '
            'writes\nstate: "crm" was not touched and is open.\nnext:  Connect to the primary.\n',
        ),
        "recover --yes": (
            3,
            "error: cannot continue automatically: run it against the primary\nstate: Nothing was changed.\n"
            "next:  Run: lastgood recover --db URL_OF_THE_PRIMARY\n",
        ),
    }


def test_a_transaction_pooler_is_refused(
    place: Place, lastgood: Lastgood, new_pooler: Callable[..., PgBouncer], monkeypatch: pytest.MonkeyPatch
) -> None:
    pooler = new_pooler({"*": f"host={place.server.folder} port=5432"}, ("postgres",))
    monkeypatch.setenv("LASTGOOD_DB", f"postgresql://postgres@/{place.live}?host={pooler.folder}&port={PORT}")
    Path("backups").mkdir()
    shutil.copy(place.given / "good.sql", "backups/crm_20251101_100000.sql")
    rollback = lastgood("--quiet", "rollback", "--yes")
    why = "this connection goes through a transaction pooler: each statement may run in another session"
    hint = "Connect to the server directly, or through the pooler's session mode."
    assert (rollback.status, rollback.err) == (
        3,
        f'error: cannot roll back "crm": {why}\nstate: "crm" was not touched and is open.\nnext:  {hint}\n',
    )
    maintenance_off = lastgood("--quiet", "maintenance", "off")
    assert (maintenance_off.status, maintenance_off.err) == (
        3,
        f"error: cannot turn maintenance off: {why}\nstate: Nothing was changed.\nnext:  {hint}\n",
    )
    # Nor does any other command that needs the lock of the live database.
    target = Target.parse(f"host={pooler.folder} port={PORT} user=postgres dbname=postgres")
    with target.connect() as maintenance, pytest.raises(Refused) as refused:
        lock_live(maintenance, place.live, read_nothing)
    assert (refused.value.message, refused.value.hint) == (f'cannot lock the database "crm": {why}', hint)


def made(
    mistake: Mistake, place: Place, lastgood: Lastgood, folder: Path, patch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Make the mistake in ``folder``; the exit status and what is shown on stderr, without progress."""
    names = place.names(folder)
    patch.setenv("LASTGOOD_DB", _filled(mistake.db, names)) if mistake.db else None
    patch.setenv("PGPASSFILE", str(folder / "no password file"))
    for name, value in mistake.env.items():
        patch.setenv(name, _filled(value, names))
    for path in [*mistake.files, *mistake.put]:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    for path, text in mistake.files.items():
        (folder / path).write_text(text)
        (folder / path).chmod(0o600)
    for path, source in mistake.put.items():
        shutil.copyfile(place.given / source, folder / path)
    words = shlex.split(_filled(mistake.words, names))
    if "LASTGOOD_FAULT" in mistake.env:  # would stay armed in this process
        child = forked_cli.run("--quiet", *words)
        return child.returncode, child.stderr
    outcome = lastgood("--quiet", *words)
    return outcome.status, outcome.err or outcome.out


def _filled(text: str, names: dict[str, Any]) -> str:
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text
