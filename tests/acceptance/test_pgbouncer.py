"""A rollback and an undo under a PgBouncer in transaction mode: none of its clients' transactions fails, none waits
long, and none that was acknowledged is lost. Whatever happens to lastgood, the clients are resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import TupleRow

from lastgood.cli import main
from lastgood.journal import Journal
from lastgood.postgres.embedded import EmbeddedServer
from tests.support import forked_cli
from tests.support.pooler import PgBouncer
from tests.support.waiting import until

CLIENTS = 16
GENEROUS_SECONDS = 5.0  # test machines are slow at times; what was measured is printed


@dataclass
class Scene:
    """A live database behind a PgBouncer, with a restore point of it."""

    server: EmbeddedServer
    live: str
    pooler: PgBouncer
    folder: Path
    capsys: pytest.CaptureFixture[str]

    def configure(self, **settings: object) -> None:
        admin = json.dumps(self.pooler.console())
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self.folder / "lastgood.toml").write_text("\n".join(["[pgbouncer]", f"admin = {admin}", *lines]) + "\n")

    def start(self, *arguments: str, fault: str = "") -> forked_cli.Process:
        environment = {**os.environ, "LASTGOOD_FAULT": fault}
        return forked_cli.Process(*arguments, "--json", environment=environment, folder=self.folder)

    def run(self, *arguments: str, status: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Its document and its events; in this process, which is quicker."""
        self.capsys.readouterr()
        found = main([*arguments, "--json"])
        output = self.capsys.readouterr()
        assert found == status, output
        return json.loads(output.out), [json.loads(line) for line in output.err.splitlines()]

    def run_apart(self, *arguments: str) -> dict[str, Any]:
        """Its document; in a process of its own, as users run it."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, (out, err)
        assert "caution" not in {json.loads(line)["event"] for line in err.splitlines()}, err
        document: dict[str, Any] = json.loads(out)
        return document

    def pauses(self) -> list[str]:
        """The entries about pauses, in order, and whether the dead-man switch wrote them."""
        entries = [entry for journal in Journal.all(self.folder / "state") for entry in journal.replay()]
        return [" ".join([e["event"], e.get("by", "")]).strip() for e in entries if e["event"].startswith("pause ")]

    @contextmanager
    def reading(self, name: str) -> Iterator[psycopg.Connection[TupleRow]]:
        """A session in a database that may be closed."""
        allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name))
        with self.server.target("postgres").connect() as connection:
            connection.execute(allow)
        with self.server.target(name).connect() as connection:
            yield connection

    def ledger(self, name: str) -> set[tuple[int, int]]:
        with self.reading(name) as connection:
            return {(row[0], row[1]) for row in connection.execute("SELECT client, number FROM public.ledger")}


@pytest.fixture
def scene(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    new_pooler: Callable[..., PgBouncer],
    store: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Scene:
    live = new_database("crm")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LASTGOOD_DB", server.url(live))
    monkeypatch.setenv("LASTGOOD_STATE", str(tmp_path / "state"))
    with server.target(live).connect() as connection:
        connection.execute("CREATE TABLE public.ledger (client int, number int, PRIMARY KEY (client, number))")
        connection.execute(
            "CREATE TABLE public.contacts AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 5000) i"
        )
    subprocess.run(
        [server.bin / "pg_dump", "-d", server.url(live), "-f", store / "cloud_backup_20251104_143000.sql"], check=True
    )
    pooler = new_pooler({"app": f"host={server.folder} port=5432 dbname={live}"}, ("postgres",))
    found = Scene(server, live, pooler, tmp_path, capsys)
    found.configure()
    return found


@dataclass
class Clients:
    """Sixteen who read and write through the pooler, each transaction timed."""

    pooler: PgBouncer
    acknowledged: set[tuple[int, int]] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    longest: float = 0.0
    done: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(CLIENTS)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _work(self, client: int) -> None:
        number = 0
        connection = self.pooler.connect("app")
        while not self._over.is_set():
            number += 1
            began = time.monotonic()
            try:
                with connection.transaction():
                    connection.execute("INSERT INTO public.ledger VALUES (%s, %s)", [client, number])
                    connection.execute("SELECT count(*) FROM public.contacts WHERE id < 100")
            except psycopg.Error as error:
                with self._lock:
                    self.failures.append(str(error))
                connection.close()
                connection = self.pooler.connect("app")
            else:
                with self._lock:
                    self.acknowledged.add((client, number))
            with self._lock:
                self.done += 1
                self.longest = max(self.longest, time.monotonic() - began)
            if number % 50 == 0:  # some connections stay, some are new
                connection.close()
                connection = self.pooler.connect("app")
            self._over.wait(0.01)
        connection.close()

    def more(self, count: int = 200) -> None:
        """Waits until so many further transactions are done."""
        goal, deadline = self.done + count, time.monotonic() + 30
        while self.done < goal:
            assert time.monotonic() < deadline, f"only {self.done} transactions of {goal}"
            self._over.wait(0.005)


def test_no_transaction_fails_and_none_is_lost(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    with Clients(scene.pooler) as clients:
        clients.more()
        report = scene.run_apart("rollback", "--yes", "--fence", "at-swap")
        clients.more()
        undone = scene.run_apart("undo", "--yes")
        clients.more()
    assert clients.failures == []
    assert report["pause"]["databases"] == undone["pause"]["databases"] == ["app"]
    assert report["pause"]["quiet"] and undone["pause"]["quiet"]
    assert report["pause"]["cut"] == []
    assert clients.longest < GENEROUS_SECONDS
    # The undo brought back the first database; what was restored is kept.
    live, kept = scene.ledger(scene.live), scene.ledger(undone["kept"])
    assert live and kept and not live & kept
    assert clients.acknowledged <= live | kept
    assert live | kept == clients.acknowledged
    assert scene.pooler.paused() == set()
    with capsys.disabled():
        print(
            f"\n{len(clients.acknowledged)} transactions of {CLIENTS} clients, none failed; the longest took "
            f"{clients.longest * 1000:.0f} ms (pauses of {report['pause']['seconds'] * 1000:.0f} and "
            f"{undone['pause']['seconds'] * 1000:.0f} ms); {len(live)} in the live, {len(kept)} in the kept database"
        )


@contextmanager
def one_client(scene: Scene) -> Iterator[psycopg.Connection[TupleRow]]:
    with scene.pooler.connect("app") as connection:
        connection.execute("SELECT 1 FROM public.contacts LIMIT 1")
        yield connection


def answers_again(scene: Scene, seconds: float) -> float:
    """How long a client waits for its answer from now on; it must come within ``seconds``."""
    began = time.monotonic()
    with scene.pooler.connect("app") as connection:
        connection.execute("SELECT count(*) FROM public.contacts")
    took = time.monotonic() - began
    assert took < seconds, took
    return took


# The short form, and what --campaign=long adds; whether the switch has taken place.
KILLED = {"pause.holds": False, "swap.after_commit": True}
KILLED_TOO = {"swap.between_renames": False, "swap.before_commit": False}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"point", "switched"} <= set(metafunc.fixturenames):
        more = KILLED_TOO if metafunc.config.getoption("--campaign") == "long" else {}
        metafunc.parametrize(("point", "switched"), (KILLED | more).items())


def test_killed_while_clients_are_held_back(scene: Scene, point: str, switched: bool) -> None:
    process = scene.start("rollback", "--yes", "--fence", "at-swap", fault=f"{point}:kill")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    answers_again(scene, seconds=2.0)
    assert scene.pooler.paused() == set()
    (run,) = [journal.run for journal in Journal.all(scene.folder / "state")]
    if switched:
        scene.run("undo", "--yes")
    else:
        scene.pooler.ask("PAUSE app")  # as if the machine had gone down, and the dead-man switch with it
        _, events = scene.run("abort", "--yes", run)
        assert [event["text"] for event in events if event["event"] == "note"] == [
            f'"app" of PgBouncer at {scene.pooler.folder}:6432 was paused: its clients are resumed now'
        ]
    answers_again(scene, seconds=2.0)
    until(lambda: scene.pauses()[:2] == ["pause begins", "pause over dead-man switch"])


def test_an_undo_killed_while_clients_are_held_back(scene: Scene) -> None:
    scene.run("rollback", "--yes", "--fence", "at-swap")
    process = scene.start("undo", "--yes", fault="pause.holds:kill")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    answers_again(scene, seconds=2.0)
    scene.run("undo", "--yes")


def test_interrupted_while_clients_are_held_back(scene: Scene) -> None:
    """Somebody sits in a transaction, and the operator has enough of waiting."""
    scene.configure(pause_limit=60)
    with one_client(scene) as idle, idle.transaction():
        idle.execute("INSERT INTO public.ledger VALUES (1, 1)")
        process = scene.start("rollback", "--yes", "--fence", "at-swap")
        until(lambda: scene.pooler.paused() == {"app"})
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert process.returncode == 130, (out, err)
        assert scene.pooler.paused() == set()
    assert json.loads(out)["error"]["message"] == "interrupted: the changes of the run were reverted"
    assert scene.ledger(scene.live) == {(1, 1)}


def test_the_switch_terminates_only_a_transaction_that_does_not_end(scene: Scene) -> None:
    scene.configure(pause_limit=1)
    with one_client(scene) as idle, one_client(scene) as other:
        idle.execute("SET application_name = 'the sleeper'")
        idle.execute("BEGIN")
        idle.execute("INSERT INTO public.ledger VALUES (1, 1)")
        report, events = scene.run("rollback", "--yes", "--fence", "at-swap")
        other.execute("INSERT INTO public.ledger VALUES (2, 2)")
        with pytest.raises(psycopg.OperationalError):
            idle.execute("COMMIT")
    (caution,) = [event["text"] for event in events if event["event"] == "caution"]
    assert caution.startswith("PgBouncer paused clients, but 1 transaction did not end in 1.0 s (process ")
    assert caution.endswith(": the switch terminates them; other clients wait, and their queries do not fail")
    assert not report["pause"]["quiet"] and len(report["pause"]["cut"]) == 1
    assert "idle in transaction for " in report["pause"]["cut"][0]
    assert report["pause"]["seconds"] < GENEROUS_SECONDS
    assert scene.pooler.paused() == set()
    assert scene.ledger(scene.live) == {(2, 2)}
    assert scene.ledger(report["kept"]) == set()


def test_writers_that_wait_for_the_fence_are_not_waited_for(scene: Scene) -> None:
    """They can't end before the switch; the others lose nothing."""
    scene.configure(pause_limit=60)
    outcome: list[str] = []

    def write() -> None:
        with scene.pooler.connect("app") as connection:
            try:
                connection.execute("INSERT INTO public.ledger VALUES (1, 1)")
                outcome.append("written")
            except psycopg.Error as error:
                outcome.append(str(error))

    process = scene.start("rollback", "--yes", "--fence", "now", fault="swap.before_transaction:stop")
    writer = threading.Thread(target=write)
    with scene.server.target("postgres").connect() as connection:
        waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock')"
        until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        writer.start()
        until(lambda: connection.execute(waiting, [scene.live]).fetchone() == (True,))
    process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=60)
    writer.join(timeout=10)
    assert process.returncode == 0, (out, err)
    report = json.loads(out)
    assert report["pause"]["seconds"] < GENEROUS_SECONDS
    assert not report["pause"]["quiet"] and len(report["pause"]["cut"]) == 1
    assert outcome and outcome != ["written"]
    assert report["fence"]["writes_after"] == 0
    assert scene.ledger(scene.live) == scene.ledger(report["kept"]) == set()


def test_clients_of_the_session_mode(scene: Scene, new_pooler: Callable[..., PgBouncer]) -> None:
    """Who is connected can't be held back; who comes meanwhile is."""
    scene.pooler = new_pooler(
        {"app": f"host={scene.server.folder} port=5432 dbname={scene.live}"}, ("postgres",), pool_mode="session"
    )
    scene.configure(pause_limit=0.5)
    with one_client(scene) as connected:
        report, _ = scene.run("rollback", "--yes", "--fence", "at-swap")
        with pytest.raises(psycopg.OperationalError):
            connected.execute("SELECT 1")
    assert not report["pause"]["quiet"]
    answers_again(scene, seconds=2.0)


def test_a_pgbouncer_that_does_not_answer_stops_nothing(scene: Scene) -> None:
    scene.pooler.close()
    report, events = scene.run("rollback", "--yes", "--fence", "at-swap")
    assert report["pause"] is None
    (caution,) = [event["text"] for event in events if event["event"] == "caution"]
    assert caution == (f"PgBouncer at {scene.pooler.folder}:6432 cannot pause clients: No such file or directory")


def test_a_database_paused_by_another_user_stays_paused(scene: Scene) -> None:
    scene.pooler.ask("PAUSE app")
    plan, _ = scene.run("rollback", "--dry-run")
    assert "pgbouncer_paused" in [finding["code"] for finding in plan["findings"]]
    assert plan["pauses"] == []
    report, _ = scene.run("rollback", "--yes", "--fence", "at-swap")
    assert report["pause"] is None
    assert scene.pooler.paused() == {"app"}
    status, _ = scene.run("status", status=7)
    assert [(pool["database"], pool["paused"]) for pool in status["pools"]] == [("app", True)]


def test_a_resumed_run_lets_clients_go_on_before_anything_else(scene: Scene) -> None:
    """The machine went down, and the dead-man switch with it."""
    process = scene.start("rollback", "--yes", "--fence", "at-swap", fault="build.after_load:kill")
    process.communicate(timeout=60)
    scene.pooler.ask("PAUSE app")
    report, events = scene.run("resume", "--yes")
    assert events[0] == {
        "format": 1,
        "event": "note",
        "text": f'"app" of PgBouncer at {scene.pooler.folder}:6432 was paused: its clients are resumed now',
    }
    assert report["pause"]["databases"] == ["app"]
    assert scene.pooler.paused() == set()
