"""Random moments: commands are killed, interrupted and cut off, a second operator does what he likes, the server hangs;
and a client writes all the time. Whatever happens, no acknowledged row is lost, the live name means a whole database
that takes writes, status, resume and abort agree, and there is a way to the end.

Each schedule is made from a seed that is printed with it: ``--seed N`` repeats one.
"""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from lastgood.postgres.embedded import EmbeddedServer
from tests.conftest import seeds
from tests.crash.conftest import Tally
from tests.crash.ledger import writing
from tests.crash.test_crash import Scene, prepared
from tests.support import forked_cli, standby

POINT = "cloud_backup_20251104_143000.sql"
# What is done to a command, and how often.
BLOWS = ("kill", "interrupt", "terminate", "hang up", "cut", "twice")
COMMANDS = ("rollback", "restore", "prune", "undo")
SECOND = (("status",), ("resume", "--yes"), ("abort", "--yes"), ("rollback", POINT, "--yes"), ("undo", "--yes"))
DOCUMENTED = {0, 3, 5, 6, 7, 130, -signal.SIGKILL}
SHORT, LONG = 3, 60


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds(metafunc.config, SHORT, LONG))


@pytest.fixture(scope="module")
def waiting_server() -> Iterator[EmbeddedServer]:
    """A server whose commits may wait for a standby."""
    with EmbeddedServer(18, settings={**standby.SETTINGS, "max_connections": "60"}) as server:
        yield server


@pytest.fixture
def scene(waiting_server: EmbeddedServer, store: Path, tmp_path: Path) -> Iterator[Scene]:
    config = tmp_path / "lastgood.toml"
    config.write_text('[server]\nwait_limit = "2s"\n')
    with waiting_server.target("postgres").connect() as connection:
        _drop_all(connection)
        connection.execute("CREATE DATABASE app TEMPLATE template0")
    with waiting_server.target("app").connect() as connection:
        connection.execute("CREATE TABLE public.ledger (id bigint PRIMARY KEY)")
    yield prepared(waiting_server, "app", store, tmp_path / "state", ("--config", str(config)))
    with waiting_server.target("postgres").connect() as connection:
        _drop_all(connection)


def _drop_all(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    rows = connection.execute("SELECT datname FROM pg_database WHERE starts_with(datname, 'app')").fetchall()
    for (name,) in rows:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))


def strike(scene: Scene, process: forked_cli.Process, blow: str, chance: random.Random) -> None:
    """Does it to a command at a random moment."""
    time.sleep(chance.uniform(0.0, 2.5))  # the moment is what is random
    if process.poll() is not None:
        return
    if blow == "cut":
        with scene.server.target("postgres").connect(application_name="the cutter") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lastgood%'"
            )
        return
    numbers = {
        "kill": [signal.SIGKILL],
        "interrupt": [signal.SIGINT],
        "terminate": [signal.SIGTERM],
        "hang up": [signal.SIGHUP],
        "twice": [signal.SIGINT, signal.SIGINT],
    }[blow]
    for number in numbers:
        process.send_signal(number)
        time.sleep(chance.uniform(0.0, 0.2) if len(numbers) > 1 else 0.0)


def begin(scene: Scene, command: str, number: int) -> forked_cli.Process:
    arguments = {
        "rollback": ("rollback", POINT, "--yes"),
        "restore": ("restore", POINT, "--into", f"app_copy{number}"),
        "prune": ("prune", "--keep", "0", "--yes"),
        "undo": ("undo", "--yes"),
    }[command]
    return scene.start(*arguments)


class Second(threading.Thread):
    """A second operator, on another machine, who does one thing after the other."""

    def __init__(self, scene: Scene, seed: int) -> None:
        super().__init__(name="the second operator", daemon=True)
        self._scene = Scene(
            scene.server, scene.live, scene.store, scene.state.with_name("another machine"), scene.options
        )
        self._chance = random.Random(seed)
        self._over = threading.Event()
        self.statuses: list[tuple[tuple[str, ...], int, str]] = []

    def run(self) -> None:
        while not self._over.wait(self._chance.uniform(0.0, 1.0)):
            command = self._chance.choice(SECOND)
            done = self._scene.run(*command)
            self.statuses.append((command, done.returncode, done.stderr))

    def end(self) -> None:
        self._over.set()
        self.join(120)
        assert not self.is_alive(), "a command of the second operator does not end"


def settled(scene: Scene) -> None:
    """Run the commands that status proposes until nothing is unfinished; every choice must lead there."""
    for _ in range(12):
        status = scene.run("status")
        assert status.returncode in (0, 7), status.stderr
        unfinished = [line.strip() for line in status.stdout.splitlines() if line.strip().startswith("lastgood ")]
        unfinished = [line for line in unfinished if line.split()[1] in ("resume", "abort", "prune")]
        if status.returncode == 0:
            return
        assert unfinished, f"status ends with 7 and names no command:\n{status.stdout}"
        command = unfinished[-1].split()[1:]
        done = scene.run(*command, "--yes")
        assert done.returncode in (0, 7), (command, done.returncode, done.stderr, status.stdout)
    raise AssertionError("it is never finished")


def whole(scene: Scene) -> None:
    """One of the two states, never a mixture."""
    deadline = time.monotonic() + 10
    while True:
        try:
            with scene.server.target(scene.live).connect() as connection:
                states = connection.execute("SELECT DISTINCT state FROM public.news").fetchall()
            break
        except psycopg.OperationalError:  # the second operator's switch ends this session, too
            if time.monotonic() > deadline:
                raise
    assert len(states) == 1


def agree(scene: Scene, seed: int) -> None:
    """status, resume and abort agree whether anything is unfinished."""
    status = scene.run("status", "--json")
    nothing = '"unfinished": []' in status.stdout.replace("\n", " ") and '"leftovers": []' in status.stdout
    if status.returncode == 0:
        for command in ("resume", "abort"):
            done = scene.run(command, "--yes")
            # The server continues the last statement of a killed client: it may end this session, too.
            if "terminating connection due to administrator command" in done.stderr:
                done = scene.run(command, "--yes")
            assert (done.returncode, f'no run of "{scene.live}" is unfinished' in done.stderr) == (3, True), (
                command, seed, done.stderr, status.stdout,
            )  # fmt: skip
    else:
        assert not nothing or '"finishing": []' not in status.stdout, status.stdout


def test_a_schedule(scene: Scene, seed: int, tally: Tally) -> None:
    chance = random.Random(seed)
    print(f"seed {seed}")
    second = Second(scene, seed) if chance.random() < 0.5 else None
    hangs = chance.random() < 0.3
    pruned: set[int] = set()
    with writing(scene.server, scene.live) as ledger, ExitStack() as to_the_end:
        if second is not None:
            second.start()
            to_the_end.callback(second.end)  # whatever happens: the next schedule has the same server
        for number in range(chance.randint(1, 3)):
            command, blow = chance.choice(COMMANDS), chance.choice(BLOWS)
            what = f"schedules: {command}, {blow}" + (", a standby hangs" if hangs else "")
            tally.add(what)
            if command == "prune":
                pruned |= ledger.kept()  # removed on purpose
            with ExitStack() as hung, begin(scene, command, number) as process:
                if hangs:
                    hung.enter_context(standby.commit_waiting_for_standby(scene.server))
                strike(scene, process, blow, chance)
                process.communicate(timeout=120)
            assert process.returncode in DOCUMENTED, (what, process.returncode)
            whole(scene)
            if second is None:
                agree(scene, seed)
        if second is not None:
            second.end()
            tally.add("schedules: commands of a second operator", len(second.statuses))
            assert all(status in DOCUMENTED for _, status, _ in second.statuses), second.statuses
        settled(scene)
        agree(scene, seed)
        assert len(scene.content()) == 1  # and it takes writes
        ledger.end()
        tally.add("schedules: rows acknowledged", len(ledger.acknowledged))
        lost = ledger.lost() - pruned
        assert not lost, f"{len(lost)} of {len(ledger.acknowledged)} acknowledged rows are lost: {sorted(lost)[:10]}"
    again = scene.run("rollback", POINT, "--yes")
    assert again.returncode == 0, again.stderr
    settled(scene)
    assert scene.leftovers() == []
