"""A rollback and an undo under a PgBouncer in transaction mode: none of its clients' transactions fails, none waits
long, and none that was acknowledged is lost. And whatever becomes of lastgood, the clients go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
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

from lastgood.journal import Journal
from lastgood.postgres.embedded import EmbeddedServer
from tests.pooler import PgBouncer

SRC = Path(__file__).parents[2] / "src"
CLIENTS = 16
GENEROUS_SECONDS = 5.0  # test machines are slow at times; what was measured is printed


@dataclass
class Scene:
    """A live database behind a PgBouncer, with a restore point of it."""

    server: EmbeddedServer
    live: str
    pooler: PgBouncer
    folder: Path

    def configure(self, **settings: object) -> None:
        admin = json.dumps(self.pooler.console())
        lines = [f"{name} = {json.dumps(value)}" for name, value in settings.items()]
        (self.folder / "lastgood.toml").write_text("\n".join(["[pgbouncer]", f"admin = {admin}", *lines]) + "\n")

    def start(self, *arguments: str, fault: str = "") -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD"))}
        environment |= {"PYTHONPATH": str(SRC), "LASTGOOD_DB": self.server.url(self.live), "LASTGOOD_FAULT": fault}
        environment["LASTGOOD_STATE"] = str(self.folder / "state")
        return subprocess.Popen(
            [sys.executable, "-m", "lastgood", *arguments, "--yes", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=self.folder,
        )

    def run(self, *arguments: str, status: int = 0, fault: str = "") -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Its document and its events."""
        process = self.start(*arguments, fault=fault)
        out, err = process.communicate(timeout=120)
        assert process.returncode == status, (out, err)
        return json.loads(out) if out else {}, [json.loads(line) for line in err.splitlines()]

    def entries(self, run: str = "") -> list[str]:
        """What the journal of the newest run tells of the pause, in order."""
        journal = Journal.all(self.folder / "state")[-1]
        names = ("pausing", "resumed", "resumed by the guardian", "done", "failed")
        return [e["event"] for e in journal.replay() if e["event"] in names[:3] or e.get("step") == "swap"]

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
) -> Scene:
    live = new_database("crm")
    with server.target(live).connect() as connection:
        connection.execute("CREATE TABLE public.ledger (client int, number int, PRIMARY KEY (client, number))")
        connection.execute(
            "CREATE TABLE public.contacts AS SELECT i AS id, 'name ' || i AS name FROM generate_series(1, 5000) i"
        )
    subprocess.run(
        [server.bin / "pg_dump", "-d", server.url(live), "-f", store / "cloud_backup_20251104_143000.sql"], check=True
    )
    pooler = new_pooler({"app": f"host={server.folder} port=5432 dbname={live}"}, ("postgres",))
    found = Scene(server, live, pooler, tmp_path)
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
            if number % 50 == 0:  # some stay, some come anew
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
        report, events = scene.run("rollback", "--fence", "at-swap")
        clients.more()
        undone, _ = scene.run("undo")
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
    assert [event["text"] for event in events if event["event"] == "caution"] == []
    with capsys.disabled():
        print(
            f"\n{len(clients.acknowledged)} transactions of {CLIENTS} clients, none failed; the longest took "
            f"{clients.longest * 1000:.0f} ms (pauses of {report['pause']['seconds'] * 1000:.0f} and "
            f"{undone['pause']['seconds'] * 1000:.0f} ms); {len(live)} in the live, {len(kept)} in the kept database"
        )
