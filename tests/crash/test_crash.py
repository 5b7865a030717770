"""Every fault point × every kind of fault: whatever happens, the live name means the old data or the new, whole and
open, and what is left over can be resumed, aborted or undone with only the server."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from lastgood import fault
from lastgood.postgres.embedded import EmbeddedServer, programs
from lastgood.postgres.leftover import leftovers
from lastgood.postgres.mark import marked
from lastgood.postgres.roles import build_role
from tests.support import forked_cli

KINDS = ("kill", "terminate", "enospc", "cut")
# What the short form runs: each phase once, the moments around the commit with every kind.
OF_THE_BUILD_ROLE = {"build.closed", "build.verified", "build.handed_over"}
SHORT = {
    ("fence.after_lock", "kill"),
    ("build.before_mark", "kill"),
    ("build.after_create", "kill"),
    ("build.during_load", "terminate"),
    ("build.after_load", "kill"),
    ("emergency.after_dump", "enospc"),
    ("prove.before_verdict", "terminate"),
    ("build.closed", "kill"),
    ("build.verified", "cut"),
    ("build.handed_over", "kill"),
    ("swap.between_renames", "kill"),
    ("swap.before_commit", "enospc"),
    ("swap.after_commit", "kill"),
    ("swap.after_commit", "cut"),
    ("swap.before_commit", "terminate"),
    ("swap.between_renames", "cut"),
    ("swap.between_renames", "terminate"),
    ("journal.before_done", "enospc"),
}
# Where a run needs none of its connections any more, or makes a new one; where a signal comes too late to stop it.
SURVIVED = {("swap.after_commit", "cut"), ("swap.before_commit", "terminate"), ("swap.after_commit", "terminate")}
OURS = ("undo.", "finish.", "pause.", "application.", "inplace.", "salvage.")  # they have campaigns of their own
ROLLBACK_POINTS = [name for name in fault.POINTS if not name.startswith(OURS)]
OLD, NEW = {"after the deployment"}, {"before the deployment"}


@dataclass
class Scene:
    """A live database in the state after a bad deployment, and a restore point from before it."""

    server: EmbeddedServer
    live: str
    store: Path
    state: Path
    options: tuple[str, ...] = ()

    def start(self, *arguments: str, fault_spec: str = "") -> forked_cli.Process:
        """The command line in a process of its own."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD"))}
        if fault_spec:
            environment["LASTGOOD_FAULT"] = fault_spec.replace(":cut", ":stop")
        options = ["--db", self.server.url(self.live), "--store", str(self.store), "--state", str(self.state)]
        return forked_cli.Process(*options, *self.options, *arguments, environment=environment)

    def run(self, *arguments: str, fault_spec: str = "") -> subprocess.CompletedProcess[str]:
        """The same, to its end. The fault ``POINT:cut`` ends all its sessions at that point."""
        process = self.start(*arguments, fault_spec=fault_spec)
        if fault_spec.endswith(":cut"):
            self.cut(process)
        output, errors = process.communicate(timeout=120)
        return subprocess.CompletedProcess(arguments, process.wait(), output, errors)

    def wait_for_stop(self, process: forked_cli.Process) -> None:
        """Waits until the process has stopped itself at its fault point."""
        watched = psutil.Process(process.pid)
        deadline = time.monotonic() + 60
        while watched.status() != psutil.STATUS_STOPPED:
            assert time.monotonic() < deadline and watched.is_running(), "it never came to the fault point"
            time.sleep(0.01)

    def cut(self, process: forked_cli.Process) -> None:
        """Wait until the process has stopped itself, terminate its sessions, and continue it."""
        self.wait_for_stop(process)
        with self.server.target("postgres").connect(application_name="the cutter") as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE application_name LIKE 'lastgood%' AND pid <> pg_backend_pid()"
            )
        process.send_signal(signal.SIGCONT)

    def content(self) -> set[str]:
        """Reads *and writes*: an open database takes both."""
        with self.server.target(self.live).connect() as connection:
            connection.execute("SET lock_timeout = '10s'")
            found = {row[0] for row in connection.execute("SELECT state FROM public.news")}
            connection.execute("UPDATE public.news SET state = state")
        return found

    def leftovers(self) -> list[str]:
        with self.server.target("postgres").connect() as connection:
            shadows = [f.name for f, mark in marked(connection) if mark.live == self.live and mark.role == "shadow"]
            roles = [each.name for each in build_role.left(connection) if each.mark.live == self.live]
            return shadows + [each.name for each in leftovers(connection, self.live)] + roles


@pytest.fixture
def scene(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Scene:
    return prepared(server, new_database(), store, tmp_path / "state")


@pytest.fixture
def struck(
    server: EmbeddedServer,
    new_database: Callable[..., str],
    store: Path,
    tmp_path: Path,
    point: str,
) -> Scene:
    """The scene for a fault at ``point``. At a point of the build role, the restore point has code, and is loaded by a
    role without rights."""
    return prepared(server, new_database(), store, tmp_path / "state", confined=point in OF_THE_BUILD_ROLE)


@pytest.fixture(params=["as operator", "confined"])
def either(
    request: pytest.FixtureRequest,
    server: EmbeddedServer,
    new_database: Callable[..., str],
    store: Path,
    tmp_path: Path,
) -> Scene:
    """The scene, loaded by the operator or by a role without rights."""
    return prepared(server, new_database(), store, tmp_path / "state", confined=request.param == "confined")


def prepared(
    server: EmbeddedServer,
    live: str,
    store: Path,
    state: Path,
    options: tuple[str, ...] = (),
    *,
    confined: bool = False,
) -> Scene:
    """The scene in the empty database ``live``; ``options`` go with each command. ``confined``: the restore point has
    code, and is loaded by a role without rights."""
    with server.target(live).connect() as connection:
        connection.execute("CREATE TABLE public.news (id int PRIMARY KEY, state text NOT NULL)")
        if confined:
            connection.execute(
                "CREATE FUNCTION public.known(text) RETURNS boolean LANGUAGE plpgsql"
                " AS $$ BEGIN RETURN $1 > ' '; END $$"
            )
            connection.execute("ALTER TABLE public.news ADD CHECK (public.known(state))")
        connection.execute("INSERT INTO public.news SELECT i, 'before the deployment' FROM generate_series(1, 2000) i")
    dump = programs(server.major)
    assert dump is not None
    subprocess.run(
        [str(dump / "pg_dump"), "-d", server.url(live), "-f", str(store / "cloud_backup_20251104_143000.sql")],
        check=True,
    )
    with server.target(live).connect() as connection:
        connection.execute("UPDATE public.news SET state = 'after the deployment'")
    return Scene(server, live, store, state, options)


def combinations(config: pytest.Config) -> list[tuple[str, str]]:
    every = [(name, kind) for name in ROLLBACK_POINTS for kind in KINDS]
    return every if config.getoption("--campaign") == "long" else [pair for pair in every if pair in SHORT]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if {"point", "kind"} <= set(metafunc.fixturenames):
        metafunc.parametrize(("point", "kind"), combinations(metafunc.config))


def test_every_point_of_the_short_form_exists() -> None:
    assert {name for name, _ in SHORT} <= set(ROLLBACK_POINTS)


def test_a_fault_leaves_the_old_or_the_new_and_a_way_on(struck: Scene, point: str, kind: str) -> None:
    scene = struck
    done = scene.run("rollback", "--yes", "--json", fault_spec=f"{point}:{kind}")
    found = scene.content()
    assert found in (OLD, NEW), "half of each under the live name"
    switched = found == NEW
    if (point, kind) in SURVIVED:
        assert (done.returncode, switched) == (0, True), done.stderr
        assert scene.run("undo", "--yes", "--json").returncode == 0
        return
    assert done.returncode != 0, f"the fault did not strike: {done.stdout}"
    assert switched == (point == "swap.after_commit" or (done.returncode == 7 and found == NEW))
    if scene.leftovers():
        # An operator on another machine, without the journal.
        scene.state = scene.state.with_name("another machine")
        aborted = scene.run("abort", "--yes", "--json")
        assert aborted.returncode == 0, aborted.stderr
        assert scene.leftovers() == []
        assert scene.content() == found
    if switched:
        undone = scene.run("undo", "--yes", "--json")
        assert undone.returncode == 0, undone.stderr
        assert scene.content() == OLD
    again = scene.run("rollback", "cloud_backup_20251104_143000.sql", "--yes", "--json")
    assert again.returncode == 0, again.stderr
    assert scene.content() == NEW
    assert scene.leftovers() == []


@pytest.mark.parametrize("point", ["build.during_load", "build.after_load", "prove.before_verdict"])
def test_a_killed_run_is_resumed_elsewhere(either: Scene, point: str) -> None:
    killed = either.run("rollback", "--yes", "--json", fault_spec=f"{point}:kill")
    assert killed.returncode == -9
    assert either.content() == OLD
    either.state = either.state.with_name("another machine")
    resumed = either.run("resume", "--yes", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert either.content() == NEW
    assert either.leftovers() == []


def test_a_run_killed_right_after_its_commit_is_finished(scene: Scene) -> None:
    killed = scene.run("rollback", "--yes", "--json", fault_spec="swap.after_commit:kill")
    assert killed.returncode == -9
    assert scene.content() == NEW
    (run,) = [path.stem for path in (scene.state / "runs").iterdir()]
    resumed = scene.run("resume", run, "--yes", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert scene.content() == NEW
    assert scene.run("undo", run, "--yes", "--json").returncode == 0
    assert scene.content() == OLD


def test_cut_connections_before_the_swap_leave_the_live_database_alone(scene: Scene) -> None:
    """Somebody ends every session of ours, again and again, while the run works."""
    over = threading.Event()

    def cut() -> None:
        with scene.server.target("postgres").connect(application_name="the cutter") as connection:
            while not over.is_set():
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'lastgood build%'"
                )
                over.wait(0.02)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        done = scene.run("rollback", "--yes", "--json")
    finally:
        over.set()
        thread.join()
    assert done.returncode in (5, 7), done.stderr
    assert scene.content() == OLD


def test_the_server_crashes_during_the_load(new_database: Callable[..., str], tmp_path: Path, store: Path) -> None:
    """An immediate shutdown of the whole cluster: after it comes back the live database is as it was."""
    with EmbeddedServer(18, settings={"fsync": "on"}) as server:
        with server.target("postgres").connect() as connection:
            connection.execute("CREATE DATABASE app TEMPLATE template0")
        with server.target("app").connect() as connection:
            connection.execute("CREATE TABLE public.news (id int PRIMARY KEY, state text NOT NULL)")
            connection.execute(
                "INSERT INTO public.news SELECT i, %s FROM generate_series(1, 9000) i", [next(iter(NEW))]
            )
        scene = Scene(server, "app", store, tmp_path / "state")
        dump = programs(18)
        assert dump is not None
        subprocess.run([str(dump / "pg_dump"), "-d", server.url("app"), "-f", str(store / "app.sql")], check=True)
        with server.target("app").connect() as connection:
            connection.execute("UPDATE public.news SET state = %s", list(OLD))
        killed = threading.Event()

        def crash() -> None:
            deadline = time.monotonic() + 60
            with server.target("postgres").connect() as connection:
                while time.monotonic() < deadline:
                    row = connection.execute("SELECT count(*) FROM pg_database WHERE datname ~ 'shadow'").fetchone()
                    if row is not None and row[0]:
                        break
            server.stop(number=signal.SIGQUIT)
            server.start()
            killed.set()

        thread = threading.Thread(target=crash)
        thread.start()
        done = scene.run("rollback", "--yes", "--json")
        thread.join()
        assert killed.is_set()
        assert done.returncode in (5, 7), (done.returncode, done.stderr)
        assert scene.content() == OLD
        if scene.leftovers():
            assert scene.run("abort", "--yes", "--json").returncode == 0
        assert scene.run("rollback", "--yes", "--json").returncode == 0
        assert scene.content() == NEW
