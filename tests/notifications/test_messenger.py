"""Messages arrive, and an address that does not take them costs nothing but its own message."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lastgood.config.tables import Recipient
from lastgood.config.tables.application import Event, Kind
from lastgood.notifications import Address, Message, Messenger
from lastgood.process.companion import Companion
from tests.support.waiting import until
from tests.support.web import Web

SRC = Path(__file__).parents[2] / "src"


def message(title: str = "crm: rolled back", event: Event = "success", kind: Kind = "rollback") -> Message:
    return Message(frozenset({event}), kind, title, "plain & <simple>\n", "**plain** \\& \\<simple\\>\n", "<p>html</p>")


def address(name: str, url: str, on: tuple[Event, ...] = ("start", "success"), kind: Kind = "rollback") -> Address:
    return Address(Recipient(name=name, url_variable="X", on=on, kinds=(kind,)), url)


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web(lambda path: (500 if path.startswith("/broken") else 200, b"ok", {}))
    yield found
    found.close()


@pytest.fixture
def hanging() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"json://127.0.0.1:{listening.getsockname()[1]}/S3CRET-PATH"


def closed_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_each_target_gets_its_messages_without_waiting_for_another(web: Web, hanging: str) -> None:
    here = web.url.replace("http:", "json:")
    messenger = Messenger(
        [
            address("hanging", hanging),
            address("good", f"{here}/good"),
            address("markdown", f"{here}/markdown?format=markdown"),
            address("html", f"{here}/html?format=html"),
            address("broken", f"{here}/broken/T0KEN-1234", on=("success",)),
            address("refusing", f"json://127.0.0.1:{closed_port()}/T0KEN-5678", on=("success",)),
            address("unknown", "https://hooks.example.org/T0KEN-9999", on=("success",)),
            address("pager", f"{here}/pager", on=("failure",)),
            address("other", f"{here}/other", kind="drill"),
        ],
        3.0,
    )
    assert messenger.problems() == {"unknown": "Apprise does not support this kind of address"}
    began = time.monotonic()
    messenger.send(message("crm: rollback started", "start"))
    messenger.send(message())
    assert time.monotonic() - began < 1.0, "sending waits for nobody"
    timeouts: list[None] = []
    deliveries = messenger.finish(lambda: timeouts.append(None))
    assert time.monotonic() - began < 3.0 + 3.0
    assert timeouts == [None]
    problems = {(each.target, each.title): each.problem for each in deliveries}
    late = "the message was not accepted within 3 s"
    start, done = "crm: rollback started", "crm: rolled back"
    assert problems == {
        ("hanging", start): late,
        ("hanging", done): late,
        ("good", start): "",
        ("good", done): "",
        ("markdown", start): "",
        ("markdown", done): "",
        ("html", start): "",
        ("html", done): "",
        ("broken", done): "Failed to send JSON POST notification: Internal server error., error=500",
        ("refusing", done): "A Connection error occurred sending JSON notification to 127.0.0.1",
        ("unknown", done): "Apprise does not support this kind of address",
    }
    posted = [(path.partition("?")[0], json.loads(body)) for path, body in web.posted]
    assert {path for path, _ in posted} == {"/good", "/markdown", "/html", "/broken/T0KEN-1234"}
    bodies = {path: body for path, body in posted if body["title"] == done}
    assert {path: (body["message"], body["type"]) for path, body in bodies.items()} == {
        "/good": ("plain & <simple>", "success"),
        "/markdown": ("**plain** \\& \\<simple\\>", "success"),
        "/html": ("<p>html</p>", "success"),
        "/broken/T0KEN-1234": ("plain & <simple>", "success"),
    }
    assert [body["title"] for path, body in posted if path == "/good"] == [start, done], "in their order"
    assert messenger.finish() == []


def test_a_name_server_that_never_answers_and_a_proxy(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, threading\n"
        "ask = socket.getaddrinfo\n"
        "def hang(host, *others, **more):\n"
        "    if host == 'never.invalid':\n"
        "        threading.Event().wait()\n"
        "    return ask(host, *others, **more)\n"
        "socket.getaddrinfo = hang\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", web.url)
    monkeypatch.setenv("NO_PROXY", "never.invalid")
    messenger = Messenger(
        [address("dns", "json://never.invalid/T0KEN"), address("proxied", "json://hooks.invalid/channel")], 2.0
    )
    assert messenger.problems() == {}
    began = time.monotonic()
    messenger.send(message())
    assert {each.target: each.problem for each in messenger.finish()} == {
        "dns": "the message was not accepted within 2 s",
        "proxied": "",
    }
    assert time.monotonic() - began < 2.0 + 3.0
    assert [path for path, _ in web.posted] == ["http://hooks.invalid/channel"]


def test_the_message_when_lastgood_is_killed(web: Web, tmp_path: Path) -> None:
    here = web.url.replace("http:", "json:")
    program = tmp_path / "run.py"
    program.write_text(
        "import sys\n"
        "from tests.notifications.test_messenger import address, message\n"
        "from lastgood.notifications import Messenger\n"
        f"messenger = Messenger([address('team', '{here}/T0KEN-1234', on=('start', 'failure'))], 5.0)\n"
        "messenger.send(message('begun', 'start'))\n"
        "messenger.set_will(message('killed', 'failure'))\n"
        "print('ready', flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{SRC}:{SRC.parent}"}
    with subprocess.Popen(
        [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        until(lambda: len(web.posted) == 1)
        if Path("/proc/self/cmdline").exists():
            lines = [each.read_bytes() for each in _command_lines()]
            # Other tests may have such a process at this moment, too.
            assert any(b"sender.py" in line and str(SRC).encode() in line for line in lines)
            assert not any(b"T0KEN" in line for line in lines)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    until(lambda: len(web.posted) == 2)
    assert [json.loads(body)["title"] for _, body in web.posted] == ["begun", "killed"]


def _command_lines() -> Iterator[Path]:
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            each.read_bytes()
        except OSError:
            continue
        yield each


@pytest.mark.parametrize(
    ("program", "problem"),
    [
        ("raise SystemExit('broken')", "the program that sends messages has ended"),
        (None, "cannot start the program that sends messages: No such file or directory"),
    ],
)
def test_a_failing_sender_program_is_reported(
    program: str | None, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if program is None:
        monkeypatch.setattr("lastgood.notifications.messenger.sys.executable", str(tmp_path / "nothing"))
    else:
        (tmp_path / "sender.py").write_text(program)
        monkeypatch.setattr("lastgood.notifications.messenger.PROGRAM", tmp_path / "sender.py")
    messenger = Messenger([address("team", "json://127.0.0.1/")], 5.0)
    messenger.send(message())
    messenger.set_will(message())
    assert [(each.target, each.problem) for each in messenger.finish()] == [("team", problem)]


def test_without_targets_nothing_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*arguments: object, **more: object) -> None:
        raise AssertionError("started")

    monkeypatch.setattr("lastgood.notifications.messenger.companion", started)
    messenger = Messenger([address("pager", "json://127.0.0.1/", on=("failure",))], 5.0)
    messenger.send(message())
    messenger.set_will(message())
    messenger.set_will(None)
    assert messenger.finish() == []


def test_ctrl_c_ends_the_wait(hanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    messenger = Messenger([address("hanging", hanging)], 60.0)
    messenger.send(message())
    heard = Companion.read

    def interrupted(self: Companion, seconds: float) -> str | None:
        monkeypatch.setattr(Companion, "read", heard)
        os.kill(self.pid, signal.SIGKILL)  # it would keep trying
        raise KeyboardInterrupt

    monkeypatch.setattr(Companion, "read", interrupted)
    began = time.monotonic()
    late = "the message was not yet accepted when Ctrl+C ended the wait"
    assert [(each.target, each.problem) for each in messenger.finish()] == [("hanging", late)]
    assert time.monotonic() - began < 10.0
