"""Row 18: everybody who must know is told, when it happens; and retention never removes what is still needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood, command
from tests.waiting import until
from tests.web import Web


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web(lambda path: (200, b"ok", {}))
    yield found
    found.close()


@pytest.fixture
def told(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The team is told of everything, the one on call of what went wrong, and a third can't be reached."""
    here = web.url.replace("http:", "json:")
    monkeypatch.setenv("TEAM_URL", f"{here}/team/T0KEN-TEAM")
    (tmp_path / "on-call.url").write_text(f"{here}/on-call/T0KEN-CALL\n")
    (tmp_path / "on-call.url").chmod(0o600)
    monkeypatch.setenv("GONE_URL", "json://127.0.0.1:1/T0KEN-GONE")
    (tmp_path / "lastgood.toml").write_text(
        "[[notifications.targets]]\n"
        'name = "team"\n'
        'url_variable = "TEAM_URL"\n'
        "[[notifications.targets]]\n"
        'name = "on call"\n'
        'url_file = "on-call.url"\n'
        'on = ["failure", "undo"]\n'
        "[[notifications.targets]]\n"
        'name = "gone"\n'
        'url_variable = "GONE_URL"\n'
        'on = "success"\n'
    )
    return web


def messages(web: Web, path: str) -> list[tuple[str, str]]:
    """What was told there: the kind and the title of each message, without the database's name."""
    sent = [json.loads(body) for place, body in web.posted if place.startswith(path)]
    return [(each["type"], each["title"].partition(": ")[2]) for each in sent]


def test_the_team_is_told_when_a_rollback_begins_ends_and_is_taken_back(
    lastgood: Lastgood, server: EmbeddedServer, database: str, told: Web, tmp_path: Path
) -> None:
    point = lastgood("backup", "--json").document["point"]
    with server.target(database).connect() as connection:
        connection.execute("INSERT INTO public.contacts VALUES (4, 'Di', now()), (5, 'Ed', now())")
    outcome = lastgood("rollback", "--yes", "--json")
    assert outcome.status == 0
    made = point["made_at"][:19].replace("T", " ")
    team = [("info", "rollback started"), ("success", f"rolled back to {made} UTC")]
    assert messages(told, "/team") == team
    assert messages(told, "/on-call") == []
    document = outcome.document
    (success,) = [json.loads(body)["message"] for _, body in told.posted if b"rolled back" in body]
    assert (
        f'Lost: 2 rows written since the restore point (contacts 2). All of it stays in "{document["kept"]}"' in success
    )
    assert f"Next: To take it back: lastgood undo {document['run']}" in success
    cautions = [each["text"] for each in outcome.events if each["event"] == "caution" and "told" in each["text"]]
    why = "A Connection error occurred sending JSON notification to 127.0.0.1"
    assert cautions == [f'"gone" was not told "{database}: rolled back to {made} UTC": {why}']
    assert "T0KEN" not in outcome.out + outcome.err

    assert lastgood("undo", "--yes").status == 0
    assert messages(told, "/on-call") == [("warning", "rollback taken back")]
    journals = [path.read_text() for path in sorted((tmp_path / "state" / "runs").iterdir())]
    assert not any("T0KEN" in each for each in journals)
    entries = [json.loads(line) for each in journals for line in each.splitlines()]
    assert sorted((e["target"], bool(e["problem"])) for e in entries if e["event"] == "notified") == [
        *[("gone", True)] * 2,
        ("on call", False),
        *[("team", False)] * 4,
    ]

    told.posted.clear()
    assert lastgood("rollback", "nothing.sql", "--yes").status == 4
    failed = ("failure", "rollback failed, the restore point can't be used")
    assert messages(told, "/on-call") == messages(told, "/team") == [failed]
    assert lastgood("rollback", "nothing.sql").status == 4
    assert lastgood("rollback", "--dry-run").status == 0
    assert len(told.posted) == 2, "somebody who sits at it knows"


@pytest.mark.parametrize(
    ("number", "status", "title"),
    [
        (signal.SIGINT, 130, "rollback interrupted"),
        (signal.SIGKILL, -signal.SIGKILL, "rollback broke off, lastgood was killed"),
    ],
)
def test_they_are_told_when_it_is_interrupted_or_killed(
    number: signal.Signals,
    status: int,
    title: str,
    lastgood: Lastgood,
    database: str,
    told: Web,
    tmp_path: Path,
    child_environment: dict[str, str],
) -> None:
    assert lastgood("backup").status == 0
    with (tmp_path / "lastgood.toml").open("a") as file:
        file.write('[hooks]\nstop = ["sh", "-c", "echo $$ > pid; mv pid stopping; exec sleep 60"]\n')
    with subprocess.Popen(
        command("rollback", "--yes"), env=child_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until((tmp_path / "stopping").exists)
        os.kill(process.pid, number)
        assert process.wait(60) == status
    if number == signal.SIGKILL:
        os.kill(int((tmp_path / "stopping").read_text()), signal.SIGKILL)
    until(lambda: messages(told, "/on-call") == [("failure", title)])
    until(lambda: messages(told, "/team") == [("info", "rollback started"), ("failure", title)])
