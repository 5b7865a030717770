"""What a foreign program and a foreign server may do to us: print without end, answer drop by drop, not answer."""

from __future__ import annotations

import io
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lastgood.application import Application, hooks
from lastgood.application.health import check_health
from lastgood.application.results import ApplicationReport, HealthResult
from lastgood.application.service import START_HINT, Service
from lastgood.config.tables import Health, Hooks
from lastgood.context import Context
from lastgood.errors import Interrupted, NotStarted
from lastgood.postgres.server import Target
from lastgood.process import run
from lastgood.screen import application as shown
from lastgood.screen.screen import Screen


def hook(program: str, **options: object) -> Application:
    return Application(Hooks.model_validate({"stop": (sys.executable, "-c", program), **options}))


def test_output_without_end_is_cut_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "MOST_OUTPUT_BYTES", 1 << 20)
    program = (
        "import sys, time\nfor i in range(50): sys.stdout.write('x' * 100_000)\nsys.stdout.flush()\n"
        "time.sleep(0.5)\nprint('the end')"
    )
    ended = run.run_foreign((sys.executable, "-c", program), environment={}, seconds=60)
    assert ended is not None and ended.status == 0
    assert ended.output.endswith("xxxthe end\n") and len(ended.output) <= run.OUTPUT_TAIL_BYTES


@pytest.mark.parametrize(
    ("program", "status", "problem"),
    [
        ("print('all stopped')", 0, ""),
        ("import sys; sys.exit(3)", 3, "exited with status 3"),
        ("import os; os.kill(os.getpid(), 9)", -9, "was terminated by signal 9"),
        (
            "import time; print('waiting', flush=True); time.sleep(60)",
            None,
            "exceeded its time limit of 0.5 s and was terminated with all its child processes: waiting",
        ),
    ],
)
def test_how_a_hook_may_end(program: str, status: int | None, problem: str) -> None:
    result = hooks.run(hook(program, time_limit=0.5 if status is None else 30), "stop", "maintenance", {})
    assert (result.hook, result.program, result.status, result.problem) == ("stop", sys.executable, status, problem)


def test_a_program_that_cannot_be_started() -> None:
    result = hooks.run(Application(Hooks(stop=("/not/there",))), "stop", "maintenance", {})
    assert (result.status, result.problem) == (None, "could not be started: No such file or directory")


def test_an_interrupt_ends_a_hook() -> None:
    with pytest.raises(Interrupted, match='interrupted while the hook "stop" ran'):
        hooks.run(hook("import time; time.sleep(60)"), "stop", "maintenance", {}, lambda: True)


def test_problems_are_found_without_running_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEALTH_TOKEN", raising=False)
    (tmp_path / "no-program").write_text("not executable")
    application = Application(
        Hooks(stop=("./no-program",), start=("surely-not-there",), maintenance_on=("true",)),
        health=Health(url="http://127.0.0.1/", headers={"X-Token": "HEALTH_TOKEN"}),
        folder=tmp_path,
    )
    assert [(each.stops, each.text) for each in application.problems()] == [
        (True, 'cannot run hook "stop": program "./no-program" is not on this machine'),
        (True, 'cannot run hook "start": program "surely-not-there" is not on this machine'),
        (False, 'hook "maintenance_on" has no counterpart "maintenance_off": an operator must do that by hand'),
        (True, 'cannot send header "X-Token" of the health check: variable "HEALTH_TOKEN" is not set'),
    ]


@contextmanager
def raw_server(*pieces: bytes, pause: float = 0.0) -> Iterator[str]:
    """Answers each connection with these bytes, with a pause after each piece."""
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(0.05)

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except TimeoutError:
                continue
            with connection:
                try:
                    connection.recv(65536)
                    for piece in pieces:
                        connection.sendall(piece)
                        if over.wait(pause):
                            break
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/health"
    finally:
        over.set()
        thread.join()
        listening.close()


def answer(url: str, **options: object) -> tuple[int | None, str]:
    health = Health.model_validate({"url": url, "time_limit": 0.5, "deadline": 0, **options})
    result = check_health(Application(health=health))
    return result.status, result.problem


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", id="body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", b"X-More: of it\r\n", id="headers"),
    ],
)
def test_an_answer_drop_by_drop_is_too_late(head: bytes, drop: bytes) -> None:
    with raw_server(head, *[drop] * 1000, pause=0.2) as url:
        began = time.monotonic()
        assert answer(url) == (None, "no response within 0.5 s")
        assert time.monotonic() - began < 10


def test_an_interrupt_does_not_wait_for_an_answer() -> None:
    health = Health.model_validate({"url": "http://127.0.0.1", "time_limit": 60, "deadline": 60})
    with raw_server(b"HTTP/1.1 200 OK\r\n", *[b"X-More: of it\r\n"] * 1000, pause=0.2) as url:
        began = time.monotonic()
        with pytest.raises(Interrupted, match="interrupted during the health check of the application"):
            check_health(
                Application(health=health.model_copy(update={"url": url})), lambda: time.monotonic() > began + 0.5
            )
        assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("pieces", "status", "problem"),
    [
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",), 200, "response is not JSON"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n[[1]",), 200, "response is not JSON"),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",), 200, "the response is not an object"),
        ((b"SSH-2.0-OpenSSH_9.6\r\n",), None, "request failed: "),
        ((b"",), None, "request failed: Server disconnected without sending a response."),
    ],
)
def test_strange_answers(pieces: tuple[bytes, ...], status: int | None, problem: str) -> None:
    with raw_server(*pieces) as url:
        found = answer(url, json={"status": "ok"})
    assert found[0] == status and found[1].startswith(problem)


def test_a_port_without_a_listener_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    status, problem = answer(f"http://127.0.0.1:{port}/")
    assert (status, problem) == (None, "request failed: [Errno 111] Connection refused")


def test_a_token_may_hold_any_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTH_AUTH", "Bearer tökenü")
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    with raw_server(head) as url:
        assert answer(url, headers={"Authorization": "HEALTH_AUTH"}) == (200, "")


def test_a_proxy_or_certificates_of_the_environment_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    begins = "cannot connect with the proxy or certificates set in the environment: "
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    assert answer("https://127.0.0.1:1/") == (None, f"{begins}[Errno 2] No such file or directory")
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv("ALL_PROXY", "nonsense://127.0.0.1:1")
    status, problem = answer("http://127.0.0.1:1/")
    assert status is None and problem.startswith(begins)


def test_a_page_of_html_is_shown_in_two_lines_at_most() -> None:
    page = "<!doctype html>\n<html>\n" + "  <p>login</p>\n" * 100
    result = HealthResult(
        url="http://x/health", tries=3, seconds=2.0, status=200, body=page[:500], problem="response is not JSON"
    )
    out = io.StringIO()
    shown.show(Screen(stdout=out, width=400), ApplicationReport(hooks=(), health=result, watch=None))
    printed = (
        "http://x/health: response is not JSON (3 tries, 2.0 s); last response: <!doctype html> <html> <p>login</p> "
    )
    assert printed in out.getvalue()
    assert len(out.getvalue()) < 400


def test_ctrl_c_during_the_restart_reports_a_stopped_application(tmp_path: Path) -> None:
    hooks = Hooks(stop=("true",), start=("sh", "-c", f"kill -INT {os.getpid()}; sleep 60"))
    target = Target({"host": "nowhere", "dbname": "crm"})
    service = Service(Application(hooks), target, {}, Context(state=tmp_path))
    service.stop("20261122-031500-9f3c1a70", "before the switch")
    with pytest.raises(NotStarted) as error:
        service.start_again("after the undo", "start the application", 'The application of "crm" is stopped.')
    assert (str(error.value), error.value.hint, error.value.state) == (
        "cannot start the application: interrupted",
        START_HINT,
        'The application of "crm" is stopped.',
    )
    assert service.record is not None and service.record.state == "stopped"
