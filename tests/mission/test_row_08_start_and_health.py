"""Row 8: "Lift read-only, restart, `curl /health` expects {"status": "ok"}": the same, with time-outs, and an undo
when it fails."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from lastgood.journal import Journal
from lastgood.journal.reader import entries
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import child_environment as child_environment
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood
from tests.cli.test_terminal import Terminal
from tests.mission.site import Site
from tests.mission.site import broken as broken
from tests.mission.site import site as site

NEEDS_THE_NEW_COLUMN = "SELECT count(phone) FROM public.contacts"
ALL_HOOKS = ["maintenance_on", "stop", "start", "maintenance_off"]


def contacts(server: EmbeddedServer, database: str) -> int:
    with server.target(database).connect() as connection:
        row = connection.execute("SELECT count(*) FROM public.contacts").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.postgres(15, 16, 17, 18)
def test_the_application_is_started_and_found_well(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    site.configure(*site.health())
    done = lastgood("rollback", "--yes", "--json")
    assert done.status == 0, done.err
    assert contacts(server, database) == 3
    assert site.called() == ALL_HOOKS and not site.is_stopped()
    application = done.document["application"]
    assert [(each["hook"], each["status"], each["output"]) for each in application["hooks"]] == [
        (name, 0, f"{name} done") for name in ALL_HOOKS
    ]
    health = application["health"]
    assert (health["url"], health["status"], health["tries"], health["problem"]) == (site.url + "/health", 200, 1, "")
    assert json.loads(health["body"])["contacts"] == 3
    assert not list(Path("state/application").glob("*.json"))


def test_a_failed_health_check_undoes_the_switch(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    site.needs = NEEDS_THE_NEW_COLUMN
    site.configure(*site.health())
    failed = lastgood("rollback", "--yes", "--json", "--on-failure", "undo")
    assert failed.status == 6
    assert contacts(server, database) == 1  # as the bad deployment left it
    assert site.called() == [*ALL_HOOKS, *ALL_HOOKS] and not site.is_stopped()
    error = failed.document["error"]
    undo = error["undo"]["run"]
    problem = f"its health check {site.url}/health failed: status 500, expected 200"
    assert error["message"] == f"cannot leave the restored database in service: {problem}"
    assert (
        error["state"]
        == f'"{database}" is again the database from before the run, and open. The application was started again.'
    )
    kept = error["undo"]["kept"]
    back = f"lastgood undo {undo} puts it back into service."
    assert error["hint"] == f'The restored database is kept as "{kept}"; {back}'
    assert error["application"]["health"]["status"] == 500
    assert len(error["application"]["hooks"]) == 8
    # The journal has one end entry, with the run that undid it.
    journal = Journal.find(Path("state"), error["run"])
    assert journal is not None
    assert [each.by for each in entries(journal, "ended")] == [undo]
    # What was restored is one undo away, and nothing is unfinished.
    assert lastgood("status").status == 0
    assert lastgood("undo", undo, "--yes").status == 0
    assert contacts(server, database) == 3


@pytest.mark.parametrize("what", ["ask", "keep"])
def test_without_a_terminal_the_restored_database_is_kept(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site, what: str
) -> None:
    site.needs = NEEDS_THE_NEW_COLUMN
    site.configure(*site.health())
    stopped = lastgood("rollback", "--yes", "--json", "--on-failure", what)
    assert stopped.status == 7
    error = stopped.document["error"]
    run = error["run"]
    assert error["code"] == "checks_failed"
    assert error["message"] == (
        f"cannot confirm that the application works: its health check {site.url}/health failed: "
        "status 500, expected 200"
    )
    assert error["hint"] == f"To undo the switch: lastgood undo {run}; to repeat the checks: lastgood resume {run}"
    assert re.fullmatch(
        rf'"{database}" is the restored database, in service; the previous one is kept as "{database}_old_\w+"\.',
        error["state"],
    )
    assert contacts(server, database) == 3
    # The application is fixed: the checks run again, and the run is done.
    site.needs = "SELECT count(*) FROM public.contacts"
    resumed = lastgood("resume", run, "--yes", "--json")
    assert resumed.status == 0, resumed.out
    assert resumed.document["application"]["health"]["problem"] == ""
    assert lastgood("undo", run, "--yes").status == 0
    assert contacts(server, database) == 1


def test_the_smoke_command_decides_too(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    smoke = "import sys; print('searching for a contact'); sys.exit('no contact found')"
    site.configure(f"smoke = ['{sys.executable}', '-c', '''{smoke}''']")
    failed = lastgood("rollback", "--yes", "--on-failure", "undo")
    assert failed.status == 6
    assert (
        'error: cannot leave the restored database in service: hook "smoke" exited with status 1: no contact found\n'
        in failed.err
    )
    assert contacts(server, database) == 1
    assert site.called() == [*ALL_HOOKS, *ALL_HOOKS]


def test_an_application_that_needs_a_moment_is_asked_again(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    # Well from its third answer after the switch on; the checklist before it asks once, too.
    site.needs = "SELECT count(*) FROM public.contacts"
    asked = site.answer

    def slowly(*arguments: Any) -> tuple[int, Any]:
        return asked(*arguments) if len(site.asked) >= 4 else (503, {"status": "starting"})

    site.answer = slowly  # type: ignore[method-assign, assignment]  # this site alone answers so
    site.configure(*site.health('deadline = "20s"'))
    done = lastgood("rollback", "--yes", "--json")
    assert done.status == 0, done.out
    assert done.document["application"]["health"]["tries"] == 3


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (('url = "{url}/moved"',), "status 302 (a redirect to /health), expected 200"),
        (('url = "{url}/health"', "status = 204"), "status 200, expected 204"),
        (('url = "{url}/health"', 'json = { status = "OK" }'), '"status" in the response is "ok", expected "OK"'),
        (('url = "{url}/health"', "json = { contacts = true }"), '"contacts" in the response is 3, expected true'),
        (('url = "{url}/health"', "json = { version = 1 }"), 'response has no "version"'),
        (
            ('url = "{url}/health"', "json = { checks = { database = true, queue = [1, 3] } }"),
            '"checks.queue[1]" in the response is 2, expected 3',
        ),
    ],
)
def test_what_counts_as_well(
    lastgood: Lastgood, database: str, broken: str, site: Site, lines: tuple[str, ...], problem: str
) -> None:
    settled = [line.replace("{url}", site.url) for line in lines]
    site.configure("[health]", *settled, 'deadline = "0s"', hooks=False)
    failed = lastgood("rollback", "--yes", "--json", "--on-failure", "keep")
    assert failed.status == 7
    assert failed.document["error"]["message"].endswith(f" failed: {problem}")


def test_headers_come_from_the_environment_and_go_nowhere_else(
    lastgood: Lastgood, database: str, broken: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.needs = "SELECT 1 FROM public.not_there"
    site.configure(*site.health(), 'headers = { Authorization = "HEALTH_TOKEN" }', hooks=False)
    refused = lastgood("rollback", "--yes")
    assert refused.status == 3
    assert 'cannot send header "Authorization" of the health check: variable "HEALTH_TOKEN" is not set' in refused.err
    monkeypatch.setenv("HEALTH_TOKEN", "Bearer s3cret-token")
    failed = lastgood("rollback", "--yes", "--json")
    assert failed.status == 7
    assert site.asked[-1] == ("/health", "Bearer s3cret-token")
    assert '"token": "***"' in failed.document["error"]["application"]["health"]["body"]
    written = "".join(path.read_text() for path in Path("state").rglob("*.jsonl"))
    assert "s3cret" not in failed.out + failed.err + written


@pytest.mark.parametrize(("answer", "status", "left"), [("undo", 6, 1), ("keep", 7, 3)])
def test_the_question_explains_both_answers(
    server: EmbeddedServer,
    database: str,
    broken: str,
    site: Site,
    child_environment: dict[str, str],
    answer: str,
    status: int,
    left: int,
) -> None:
    site.needs = NEEDS_THE_NEW_COLUMN
    site.configure(*site.health())
    terminal = Terminal("rollback", "--yes", environment=child_environment)
    terminal.read_until('Type "undo" or "keep":\n> ')
    terminal.type("perhaps")
    terminal.read_until('perhaps\nType "undo" or "keep":\n> ')
    question = " ".join(terminal.shown.split())
    assert (
        f"The application does not work with the restored database: its health check {site.url}/health failed: "
        f'status 500, expected 200 undo the previous database becomes "{database}" again; the restored one is kept.'
        " keep the restored database remains in service. To undo later: lastgood undo "
    ) in question
    terminal.type(answer)
    assert terminal.end() == status, terminal.shown
    assert contacts(server, database) == left
    assert max(len(line) for line in terminal.shown.split("\n") if "\r" not in line) <= 80
    assert 'last response: {"status": "error", "why": ' in " ".join(terminal.shown.split())


def test_an_application_that_does_not_start_counts_as_not_well(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    site.configure()
    (site.folder / "start.py").write_text("raise SystemExit('port 8000 is taken')")
    kept = lastgood("rollback", "--yes", "--json")
    assert kept.status == 7
    error = kept.document["error"]
    assert error["message"] == (
        'cannot confirm that the application works: it could not be started: hook "start" exited with status 1: '
        "port 8000 is taken"
    )
    assert (contacts(server, database), site.is_stopped()) == (3, True)
    # The application is fixed and started.
    site.configure()
    assert lastgood("resume", "--yes").status == 0
    assert (contacts(server, database), site.is_stopped()) == (3, False)
    # Regardless of on_failure: an application that cannot be started is reported.
    (site.folder / "start.py").write_text("raise SystemExit('port 8000 is taken')")
    undone = lastgood("rollback", broken, "--yes", "--json", "--on-failure", "undo")
    assert undone.status == 6
    error = undone.document["error"]
    assert error["state"] == (
        f'"{database}" is again the database from before the run, and open. The application is not running: hook '
        '"start" exited with status 1: port 8000 is taken.'
    )
    assert error["hint"].startswith(
        "Start it by hand, or fix the hook and run: lastgood maintenance off. The restored database is kept as "
    )
    site.configure()
    assert lastgood("maintenance", "off").status == 0
    assert not site.is_stopped()


def test_what_was_kept_and_then_undone_is_forgotten(lastgood: Lastgood, database: str, broken: str, site: Site) -> None:
    site.needs = NEEDS_THE_NEW_COLUMN
    site.configure(*site.health())
    assert lastgood("rollback", "--yes").status == 7
    assert "  The application was started again, but its health is not confirmed: by 20" in lastgood("status").out
    assert lastgood("undo", "--yes").status == 0
    assert "The application" not in lastgood("status").out
    assert not list(Path("state/application").glob("*.json"))
