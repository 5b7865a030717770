"""Row 9: "After: critical path smoke tests, error log, query performance, users' reports": the smoke command, and a
watch on server errors, lock waits and slow statements, compared with before."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood
from tests.cli.conftest import child_environment as child_environment
from tests.cli.conftest import clean_environment as clean_environment
from tests.cli.conftest import database as database
from tests.cli.conftest import lastgood as lastgood
from tests.mission.site import Site
from tests.mission.site import broken as broken
from tests.mission.site import site as site
from tests.support import forked_cli
from tests.support.web import Web

WATCH = ("[watch]", 'length = "3s"', 'every = "0.5s"')
BRIEFLY = ("[watch]", 'length = "1s"', 'every = "0.5s"')


@contextmanager
def users(server: EmbeddedServer, database: str, query: str) -> Iterator[None]:
    """Users of the application that ask the same all day long, fifty times a second, and come back when cut off."""
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                with server.target(database).connect(application_name="web") as connection:
                    while not over.wait(0.02):
                        try:
                            connection.execute(query.encode())
                        except psycopg.errors.UndefinedColumn:
                            continue  # an error page
            except psycopg.Error:
                continue

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def figures(document: dict[str, Any]) -> dict[str, tuple[float | None, float | None, str]]:
    return {
        each["name"]: (each["before"], each["after"], each["verdict"])
        for each in document["application"]["watch"]["figures"]
    }


@pytest.mark.postgres(18, also=(15,))
def test_errors_after_the_switch_are_reported_with_the_undo_command(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    site.configure(*WATCH, hooks=False)
    with users(server, database, "SELECT phone FROM public.contacts"):  # the deployed code reads the new column
        done = lastgood("rollback", "--yes", "--json")
    assert done.status == 0, done.err
    watch = done.document["application"]["watch"]
    assert (watch["ended"], watch["samples"] >= 5, watch["seconds"] >= 3) == ("", True, True)
    found = figures(done.document)
    before, after, verdict = found["rollbacks"]
    assert before is not None and after is not None and before < 1 and after > 5
    assert verdict == "worse"
    assert found["deadlocks"] == (0.0, 0.0, "same")
    assert found["connections"][2] == "same"
    cautions = [each["text"] for each in done.events if each["event"] == "caution"]
    assert any(
        re.fullmatch(
            r"transactions rolled back: [\d.]+/s after the switch, [\d.]+/s before it; to undo: "
            rf"lastgood undo {done.document['run']}",
            text,
        )
        for text in cautions
    ), cautions
    progress = [each for each in done.events if each["event"] == "progress" and each["stage"] == "watch"]
    assert progress and progress[-1]["total"] == 3


def test_nothing_got_worse(lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str) -> None:
    with users(server, database, "SELECT name FROM public.contacts"):
        done = lastgood("rollback", "--yes", "--watch", "2s")
    assert done.status == 0
    assert not re.search(r"^caution", done.err, re.MULTILINE)
    shown = done.out[done.out.index("The server, watched for 2.") :]
    assert re.match(
        r"The server, watched for 2\.\d s compared with the [\d.]+ s before the run\n"
        r"  figure +before +after\n"
        r"  transactions rolled back +[\d.]+/s +[\d.]+/s\n"
        r"  deadlocks +0/s +0/s\n"
        r"  queries cancelled by recovery +0/s +0/s\n"
        r"  sessions ended abnormally +[\d.]+/s +[\d.]+/s\n"
        r"  sessions waiting for locks +0 +0\n"
        r"  connections +1 +[\d.]+\n",
        shown,
    ), shown


def test_an_application_that_does_not_come_back_is_seen(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str
) -> None:
    with server.target(database).connect(application_name="web"):
        done = lastgood("rollback", "--yes", "--json", "--watch", "1s")
    assert figures(done.document)["connections"] == (1.0, 0.0, "worse")


def test_sessions_that_wait_for_each_other_are_seen(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    """Whoever comes after the switch finds a lock that is never given back."""
    site.configure(*WATCH, hooks=False)
    over, threads = threading.Event(), list[threading.Thread]()

    def come(waits: bool) -> None:
        while not over.is_set():
            try:
                with server.target(database).connect(autocommit=False, application_name="web") as connection:
                    tables = connection.execute("SELECT to_regclass('public.good_again')").fetchone()
                    if tables == (None,):
                        over.wait(0.05)
                        continue
                    if waits:
                        connection.execute("SET statement_timeout = '20s'")
                        connection.execute("SELECT count(*) FROM public.good_again")
                    else:
                        connection.execute("LOCK public.good_again")
                        over.wait(20)
            except psycopg.Error:
                continue

    with server.target(database).connect() as connection:
        connection.execute("CREATE TABLE public.good_again ()")
    name = lastgood("backup", "--json").document["point"]["name"]
    with server.target(database).connect() as connection:
        connection.execute("DROP TABLE public.good_again")
    threads += [threading.Thread(target=come, args=(waits,)) for waits in (False, True, True, True)]
    for thread in threads:
        thread.start()
    try:
        done = lastgood("rollback", name, "--yes", "--json")
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert done.status == 0, done.err
    before, after, verdict = figures(done.document)["lock_waits"]
    assert (before, verdict) == (0.0, "worse") and after is not None and after >= 2


def test_the_health_is_asked_again_at_the_end(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, site: Site
) -> None:
    site.configure(*site.health(), *WATCH)
    well = site.answer

    def sickening(*arguments: Any) -> tuple[int, Any]:
        return well(*arguments) if len(site.asked) == 1 else (500, {"status": "out of memory"})

    site.answer = sickening  # type: ignore[method-assign, assignment]  # this site alone answers so
    failed = lastgood("rollback", "--yes", "--json", "--on-failure", "undo")
    assert failed.status == 6
    assert failed.document["error"]["message"] == (
        f"cannot leave the restored database in service: its health check {site.url}/health failed: "
        "status 500, expected 200"
    )
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (1,)


def watching(environment: dict[str, str]) -> tuple[forked_cli.Process, Iterator[dict[str, Any]]]:
    """A rollback that watches for long, and its events."""
    process = forked_cli.Process("rollback", "--yes", "--json", "--watch", "10min", environment=environment)
    assert process.stderr is not None
    return process, map(json.loads, process.stderr)


def test_ctrl_c_ends_the_watch_and_nothing_else(
    server: EmbeddedServer, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    process, events = watching(child_environment)
    for event in events:
        if (event["event"], event.get("stage")) == ("progress", "watch"):
            process.send_signal(signal.SIGINT)
            break
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    document = json.loads(out)
    assert document["status"] == "done"
    assert document["application"]["watch"]["ended"] == "ended early: interrupted"
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (3,)


def test_an_undo_is_possible_during_the_watch(
    lastgood: Lastgood, server: EmbeddedServer, database: str, broken: str, child_environment: dict[str, str]
) -> None:
    process, events = watching(child_environment)
    next(event for event in events if event.get("stage") == "watch")
    undone = lastgood("undo", "--yes")
    assert undone.status == 0, undone.err
    out, rest = process.communicate(timeout=60)
    assert process.returncode == 0, rest
    assert json.loads(out)["application"]["watch"]["ended"].startswith("ended early: ")
    with server.target(database).connect() as connection:
        assert connection.execute("SELECT count(*) FROM public.contacts").fetchone() == (1,)


class SentryServer:
    """As much of Sentry's API as is asked: so many events in each ten seconds, before the switch and after it."""

    def __init__(self, counts: Iterator[int], status: int = 200) -> None:

        def answer(path: str) -> tuple[int, bytes, dict[str, str]]:
            since, until = (int(query_of(path)[name][0]) for name in ("since", "until"))
            each = next(counts)
            return status, json.dumps([[at, each] for at in range(since, until, 10)]).encode(), {}

        self._web = Web(answer)
        self.asked, self.close = self._web.asked, self._web.close

    def configure(self) -> None:
        Path("lastgood.toml").write_text(
            "\n".join(BRIEFLY) + f'\n[watch.sentry]\nurl = "{self._web.url}"\norganization = "acme"\nproject = "crm"\n'
        )


def query_of(path: str) -> dict[str, list[str]]:
    return parse_qs(urlsplit(path).query)


@pytest.fixture
def sentry(request: pytest.FixtureRequest) -> Iterator[Callable[..., SentryServer]]:
    made: list[SentryServer] = []

    def make(*counts: int, status: int = 200) -> SentryServer:
        made.append(SentryServer(iter(counts), status))
        made[-1].configure()
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_errors_that_the_application_reported_are_counted(
    lastgood: Lastgood,
    database: str,
    broken: str,
    sentry: Callable[..., SentryServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENTRY_AUTH_TOKEN", "sntrys_s3cret")
    server = sentry(1, 40)
    done = lastgood("rollback", "--yes", "--json")
    assert done.status == 0, done.err
    assert figures(done.document)["application_errors"] == (0.1, 4.0, "worse")
    path, token = server.asked[0]
    query = query_of(path)
    assert (urlsplit(path).path, token) == ("/api/0/projects/acme/crm/stats/", "Bearer sntrys_s3cret")
    assert (query["stat"], query["resolution"]) == (["received"], ["10s"])
    written = "".join(each.read_text() for each in Path("state").rglob("*.jsonl"))
    assert "s3cret" not in done.out + done.err + written


def test_a_sentry_that_does_not_answer_stops_nothing(
    lastgood: Lastgood,
    database: str,
    broken: str,
    sentry: Callable[..., SentryServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sentry(1, 1, status=403)
    done = lastgood("rollback", "--yes")
    assert done.status == 0
    assert 'caution cannot query Sentry: variable "SENTRY_AUTH_TOKEN" is not set' in done.out.replace("  ", " ")
    monkeypatch.setenv("SENTRY_AUTH_TOKEN", "sntrys_s3cret")
    again = lastgood("rollback", broken, "--yes", "--json")
    assert again.status == 0
    assert "application_errors" not in figures(again.document)
    notes = [each["text"] for each in again.events if each["event"] == "note"]
    assert any(text.startswith("Sentry was not counted: Client error '403 Forbidden'") for text in notes), notes


def test_a_length_that_is_none(lastgood: Lastgood, database: str) -> None:
    refused = lastgood("rollback", "--watch", "a while")
    assert (refused.status, refused.err) == (
        2,
        'error: cannot use --watch "a while": write a duration like 30s, 5min or 24h\n'
        "state: Nothing was read or changed.\n"
        "next:  Run the command again with a valid duration, or without --watch.\n",
    )
