"""Row 18: notifications are sent to the right targets in time; and retention never removes what is still needed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.lock import lock_live, read_nothing
from tests.cli.conftest import Lastgood, command
from tests.support.waiting import until
from tests.support.web import Web


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web(lambda path: (200, b"ok", {}))
    yield found
    found.close()


@pytest.fixture
def receiver(web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Web:
    """The team gets every message, the person on call only failures, and a third target is unreachable."""
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
    """The kind and the title of each message, without the database's name."""
    sent = [json.loads(body) for place, body in web.posted if place.startswith(path)]
    return [(each["type"], each["title"].partition(": ")[2]) for each in sent]


def test_a_rollback_is_notified_at_its_begin_its_end_and_its_undo(
    lastgood: Lastgood, server: EmbeddedServer, database: str, receiver: Web, tmp_path: Path
) -> None:
    point = lastgood("backup", "--json").document["point"]
    with server.target(database).connect() as connection:
        connection.execute("INSERT INTO public.contacts VALUES (4, 'Di', now()), (5, 'Ed', now())")
    outcome = lastgood("rollback", "--yes", "--json")
    assert outcome.status == 0
    made = point["made_at"][:19].replace("T", " ")
    team = [("info", "rollback started"), ("success", f"rolled back to {made} UTC")]
    assert messages(receiver, "/team") == team
    assert messages(receiver, "/on-call") == []
    document = outcome.document
    (success,) = [json.loads(body)["message"] for _, body in receiver.posted if json.loads(body)["type"] == "success"]
    assert (
        f'Lost: 2 rows written since the restore point (contacts 2). Everything is kept in "{document["kept"]}"'
        in success
    )
    assert f"Next: To undo: lastgood undo {document['run']}" in success
    cautions = [
        each["text"]
        for each in outcome.events
        if each["event"] == "caution" and each["text"].startswith("notification ")
    ]
    why = "A Connection error occurred sending JSON notification to 127.0.0.1"
    assert cautions == [f'notification "{database}: rolled back to {made} UTC" to "gone" failed: {why}']
    assert "T0KEN" not in outcome.out + outcome.err

    assert lastgood("undo", "--yes").status == 0
    assert messages(receiver, "/on-call") == [("warning", "rollback undone")]
    journals = [path.read_text() for path in sorted((tmp_path / "state" / "runs").iterdir())]
    assert not any("T0KEN" in each for each in journals)
    entries = [json.loads(line) for each in journals for line in each.splitlines()]
    assert sorted((e["target"], bool(e["problem"])) for e in entries if e["event"] == "notified") == [
        *[("gone", True)] * 2,
        ("on call", False),
        *[("team", False)] * 4,
    ]

    receiver.posted.clear()
    assert lastgood("rollback", "nothing.sql", "--yes").status == 4
    failed = ("failure", "rollback failed, the restore point is unusable")
    assert messages(receiver, "/on-call") == messages(receiver, "/team") == [failed]
    assert lastgood("rollback", "nothing.sql").status == 4
    assert lastgood("rollback", "--dry-run").status == 0
    assert len(receiver.posted) == 2, "an attended command sends no early errors"

    receiver.posted.clear()
    assert lastgood("deploy", "--", "sh", "-c", "exit 3 # T0KEN-MIGRATION").status == 5
    assert messages(receiver, "/on-call") == [("failure", "deployment failed, database unchanged")]
    assert messages(receiver, "/team") == [("info", "deployment started"), *messages(receiver, "/on-call")]
    sent = [json.loads(body)["message"] for _, body in receiver.posted]
    assert all(each.endswith("Command: lastgood deploy -- sh …") and "MIGRATION" not in each for each in sent)


@pytest.mark.parametrize(
    ("number", "status", "title"),
    [
        (signal.SIGINT, 130, "rollback interrupted"),
        (signal.SIGKILL, -signal.SIGKILL, "rollback terminated, lastgood was killed"),
    ],
)
def test_an_interrupted_or_killed_rollback_is_notified(
    number: signal.Signals,
    status: int,
    title: str,
    lastgood: Lastgood,
    database: str,
    receiver: Web,
    tmp_path: Path,
    child_environment: dict[str, str],
) -> None:
    assert lastgood("backup").status == 0
    with (tmp_path / "lastgood.toml").open("a") as file:
        file.write('[hooks]\nstop = ["sh", "-c", "touch stopping; exec sleep 60"]\n')
    with subprocess.Popen(
        command("rollback", "--yes"), env=child_environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        until((tmp_path / "stopping").exists)
        os.kill(process.pid, number)
        assert process.wait(60) == status
    until(lambda: messages(receiver, "/on-call") == [("failure", title)])
    until(lambda: messages(receiver, "/team") == [("info", "rollback started"), ("failure", title)])


def aged(point: str, days: int) -> str:
    """A copy of a restore point as it would be if it had been made so many days ago at noon; its name."""
    source = Path("backups", point)
    manifest = json.loads(Path("backups", f"{point}.lastgood.json").read_text())
    made = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=days)
    name = f"crm_{made:%Y%m%d_%H%M%S}.sql"
    Path("backups", name).write_bytes(source.read_bytes())
    Path("backups", f"{name}.lastgood.json").write_text(json.dumps({**manifest, "made_at": made.isoformat()}))
    return name


def reasons(document: dict[str, Any]) -> dict[str, str]:
    """Of what stays, why; of what goes, that it goes."""
    return {each["name"]: "remove" if each["remove"] else each["why"] for each in document["candidates"]}


def test_retention_removes_only_what_is_not_needed(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path
) -> None:
    (tmp_path / "lastgood.toml").write_text("[retention]\nkeep = { last = 1, daily = 3 }\nkept = { last = 1 }\n")
    newest = lastgood("backup", "--json").document["point"]["name"]
    days = {day: aged(newest, day) for day in range(1, 9)}
    Path("backups", "from_elsewhere.sql").write_bytes(Path("backups", newest).read_bytes())
    os.utime(Path("backups", "from_elsewhere.sql"), (0, 0))
    assert lastgood("points", "pin", days[7], "--reason", "the audit of  Q3").status == 0

    # Two rollbacks: what they went back to, and the state they got away from, belong to incidents.
    first = lastgood("rollback", days[5], "--yes", "--json").document
    second = lastgood("rollback", days[6], "--yes", "--json").document
    emergencies = {Path(each["emergency_backup"]).name: each["run"] for each in (first, second)}
    plan = lastgood("prune", "--dry-run", "--json").document
    assert plan["timezone"] == "UTC"
    today = datetime.now(UTC).date()

    def post_mortem(run: str) -> str:
        return f"the post-mortem of run {run} is not written (lastgood report {run} --done post_mortem --by NAME)"

    found = reasons(plan)
    (newest_emergency, _), (other_emergency, other_run) = sorted(emergencies.items(), reverse=True)
    assert found.pop(newest_emergency).startswith("the newest, daily ")
    assert found.pop(other_emergency) in ("the oldest, while daily has room", post_mortem(other_run))
    assert found == {
        first["kept"]: "remove",
        second["kept"]: "the newest",
        newest: f"the newest, daily {today}",
        days[1]: f"daily {today - timedelta(days=1)}",
        days[2]: f"daily {today - timedelta(days=2)}",
        days[3]: "remove",
        days[4]: "remove",
        days[5]: post_mortem(first["run"]),
        days[6]: f"run {second['run']} restored it and can be undone",
        days[7]: "pinned by root: the audit of Q3" if os.getuid() == 0 else found[days[7]],
        days[8]: "remove",
        "from_elsewhere.sql": "not made by lastgood: remove it by name, or set foreign = true in [retention]",
    }
    text = lastgood("prune", "--dry-run").out
    assert text.startswith("Would remove 4 items (")
    assert "  By [retention] of lastgood.toml; days and weeks in time zone UTC.\n" in text
    assert lastgood("prune").status == 3, "not confirmed"
    done = lastgood("prune", "--yes", "--json")
    assert sorted(done.document["removed"]) == sorted([first["kept"], days[3], days[4], days[8]])
    assert not any(
        Path("backups", f"{days[day]}{suffix}").exists() for day in (3, 4, 8) for suffix in ("", ".lastgood.json")
    )
    assert lastgood("prune", "--yes").out.startswith("Nothing would be removed."), "twice removes nothing more"

    # A pinned restore point is not removed until it is unpinned.
    refused = lastgood("prune", days[7], "--yes", "--json")
    assert refused.status == 3
    error = refused.document["error"]
    assert error["message"].startswith(f'cannot prune "{days[7]}": pinned by ')
    assert error["hint"] == f"Unpin it first: lastgood points unpin {days[7]}"
    assert {each["name"]: each["pinned"] for each in lastgood("points", "--json").document["points"]}[days[7]] == (
        "the audit of Q3"
    )
    assert lastgood("points", "unpin", days[7]).status == 0
    assert lastgood("points", "unpin", days[7]).status == 3

    # The post-mortems are written: nothing refers to the first rollback any more; the second can still be undone.
    for each in (first, second):
        assert lastgood("report", each["run"], "--done", "post_mortem", "--by", "Ann").status == 0
    made = lastgood("backup", "--prune", "--label", "nightly", "--json").document
    assert set(made["removed"]) == {newest, days[5], days[7]}, "the new one is the newest of its day"
    left = {each["name"] for each in lastgood("points", "--json").document["points"]}
    assert {made["point"]["name"], days[6], newest_emergency, "from_elsewhere.sql"} <= left
    assert Path("backups", made["point"]["name"]).exists()
    assert lastgood("points", "verify", made["point"]["name"]).status == 0


def test_backup_prune_needs_a_policy_and_makes_the_backup_whatever_becomes_of_the_rest(
    lastgood: Lastgood, server: EmbeddedServer, database: str, tmp_path: Path
) -> None:
    refused = lastgood("backup", "--prune")
    assert (refused.status, refused.err) == (
        2,
        "error: cannot prune after the backup: lastgood.toml has no retention rules\n"
        "state: Nothing was read or changed.\n"
        "next:  Add a [retention] table to it, as docs/retention.md describes.\n",
    )
    assert not Path("backups").exists()
    (tmp_path / "lastgood.toml").write_text("[retention]\nkeep = { last = 1 }\n")
    assert lastgood("backup", "--pin", "the state before the audit").status == 0
    first = lastgood("backup", "--json").document["point"]["name"]
    with server.target("postgres").connect() as maintenance:
        lock_live(maintenance, database, read_nothing)  # a run is at work
        outcome = lastgood("backup", "--prune", "--json")
    assert outcome.status == 3
    assert outcome.document["removed"] == []
    (caution,) = [each["text"] for each in outcome.events if each["event"] == "caution"]
    assert caution.startswith("the restore point was created, but pruning failed: cannot ")
    outcome = lastgood("backup", "--prune")
    assert outcome.status == 0
    assert outcome.out.endswith(f"  - {first}\n") or f"  - {first}\n" in outcome.out
    assert len(lastgood("points", "--json").document["points"]) == 2
