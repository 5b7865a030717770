"""Each signal that ends a program, sent to each command while it is at work: the status is the documented one."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lastgood.cli.commands import ORDER
from tests.crash.test_crash import NEW, OLD, Scene
from tests.crash.test_crash import scene as scene
from tests.support import forked_cli
from tests.support.waiting import until

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DUMP = """--
-- PostgreSQL database dump
--

-- Dumped from database version 17.5
-- Dumped by pg_dump version 17.5

SET client_encoding = 'UTF8';
CREATE TABLE public.t (id integer);

COPY public.t (id) FROM stdin;
1
\\.

--
-- PostgreSQL database dump complete
--

"""
# What each command is called with, so that it asks the server or reads a file.
SERVER = {
    "rollback": ["--yes"],
    "recover": [],
    "undo": ["--yes"],
    "status": [],
    "resume": ["--yes"],
    "abort": ["--yes"],
    "deploy": ["--", "true"],
    "check": [],
    "maintenance": ["on", "--fence"],
    "backup": [],
    "restore": ["good.sql", "--into", "copy"],
    "validate": [],
    "drill": ["--server", "{db}"],
    "prune": ["--keep", "3", "--yes"],
    "guide": [],
    "init": [],
    "facts": ["good.sql", "--live"],
    "diff": ["good.sql"],
    "salvage": ["apply", "--yes"],
    "report": ["20261122-031500-9f3c1a70"],
}
# They neither wait for a server nor read anything large: there is no moment at which a signal could meet them at work.
AT_ONCE = {"explain", "runs", "points", "help", "config", "notify"}


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """A server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening


def test_every_command_is_in_a_list() -> None:
    assert {*SERVER, *AT_ONCE} == set(ORDER)


@pytest.mark.parametrize("command", SERVER)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
def test_while_it_waits_for_the_server(
    command: str, number: signal.Signals, silent_server: socket.socket, tmp_path: Path
) -> None:
    (tmp_path / "good.sql").write_text(DUMP)
    db = f"postgresql://app@127.0.0.1:{silent_server.getsockname()[1]}/app?sslmode=disable&gssencmode=disable"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD"))}
    arguments = [each.replace("{db}", db) for each in SERVER[command]]
    with forked_cli.Process(
        "--db", db, "--store", str(tmp_path), "--state", str(tmp_path / "state"), command, *arguments,
        environment=environment, folder=tmp_path,
    ) as process:  # fmt: skip
        silent_server.settimeout(30)
        connection, _ = silent_server.accept()
        with connection:
            process.send_signal(number)
        silent_server.close()  # what still waits for an answer ends
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 130, (output, errors)
        assert "interrupted" in errors.partition("error: ")[2]


@pytest.mark.parametrize("number", SIGNALS, ids=lambda each: each.name)
@pytest.mark.parametrize(
    ("point", "command", "left"),
    [
        ("fence.after_lock", ("rollback", "--yes"), OLD),
        ("build.during_load", ("rollback", "--yes"), OLD),
        ("swap.before_commit", ("rollback", "--yes"), NEW),
        ("build.during_load", ("restore", "cloud_backup_20251104_143000.sql", "--into", "{live}_copy"), OLD),
    ],
)
def test_while_it_works_on_the_server(
    scene: Scene, number: signal.Signals, point: str, command: tuple[str, ...], left: set[str]
) -> None:
    process = scene.start(*(each.replace("{live}", scene.live) for each in command), fault_spec=f"{point}:stop")
    scene.wait_for_stop(process)
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    # A signal right before the commit comes too late: the run is done.
    assert process.returncode == (0 if left == NEW else 130), errors
    assert (scene.content(), scene.leftovers()) == (left, [])
    assert scene.run("status").returncode == 0


def test_a_hangup_that_is_to_be_ignored_is_ignored(silent_server: socket.socket, tmp_path: Path) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        from lastgood.process import interrupts

        with interrupts.raise_on_signal(), interrupts.on_signal(lambda: None):
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_rollback_is_not_suspended(scene: Scene) -> None:
    process = scene.start("rollback", "--yes", fault_spec="fence.after_lock:stop")
    scene.wait_for_stop(process)
    process.send_signal(signal.SIGCONT)  # which would take a SIGTSTP from before away
    process.send_signal(signal.SIGTSTP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert (
        "caution a rollback cannot be suspended: writers may be waiting; press Ctrl+C to stop and revert it\n" in errors
    )
    assert scene.content() == NEW


def test_a_fence_whose_process_stands_still_ends(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGSTOP cannot be refused: the server releases the writers."""
    process = scene.start("rollback", "--yes", fault_spec="build.during_load:stop")
    scene.wait_for_stop(process)
    with scene.server.target(scene.live).connect() as writer:
        writer.execute("SET lock_timeout = '60s'")
        writer.execute("UPDATE public.news SET state = state")
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert "caution the fence was lost during the run" in " ".join(errors.split())
    until(lambda: scene.content() == NEW)
