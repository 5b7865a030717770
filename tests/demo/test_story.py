"""The demo as a user runs it: a program of its own, without a terminal, with one, interrupted, and when it fails."""

from __future__ import annotations

import io
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from demo.screen import Screen

SCALE = "0.02"


@contextmanager
def started(
    folder: Path, output: int, environment: Mapping[str, str] | None = None, *, act: str = "demo"
) -> Iterator[subprocess.Popen[bytes]]:
    """An act of the demo, running; interrupted and waited for when the test did not see it to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", act, "--scale", SCALE],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        if process.stdout is not None:
            process.stdout.close()


def read_until(descriptor: int, words: bytes, seconds: float = 120) -> bytes:
    """What came until ``words`` did, or until the end."""
    shown_text, deadline = b"", time.monotonic() + seconds
    while words not in shown_text and time.monotonic() < deadline:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:  # a terminal whose other side is gone
            break
        if not chunk:
            break
        shown_text += chunk
    return shown_text


def command_line(process: psutil.Process) -> list[str]:
    """As it was started; nothing of one that has ended meanwhile, as a server's backends do all the time."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:
        return []


@pytest.mark.parametrize("act", ["demo", "demo.hosted"])
def test_every_claim_holds(tmp_path: Path, act: str) -> None:
    with started(tmp_path, subprocess.PIPE, act=act) as process:
        shown_text, _ = process.communicate(timeout=200)
    text = shown_text.decode()
    assert process.returncode == 0, text
    assert "[FAILED]" not in text
    assert "\x1b" not in text
    last = text.rstrip().splitlines()[-1]
    pattern = r"\s*The demo checked all (\d+) claims itself, and they hold\. Total time: \d+ s\.\s*"
    claims = re.fullmatch(pattern, last)
    assert claims is not None, last
    assert int(claims[1]) == text.count("[ok]") > 20
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_has_colours_unless_no_color_is_set(tmp_path: Path) -> None:
    for environment, coloured in (({"TERM": "xterm-256color"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        with started(tmp_path, theirs, environment) as process:
            os.close(theirs)
            shown_text = read_until(ours, b"The old backup script makes")
            process.send_signal(signal.SIGINT)
            while read_until(ours, b"\x00"):
                pass
        os.close(ours)
        assert (b"\x1b[1;36m" in shown_text or b"\x1b[36m" in shown_text) == coloured


def test_ctrl_c_during_a_rollback_leaves_nothing_behind(tmp_path: Path) -> None:
    with started(tmp_path, subprocess.PIPE) as process:
        assert process.stdout is not None
        shown_text = read_until(process.stdout.fileno(), b"$ lastgood rollback --latest --yes")
        assert b"[FAILED]" not in shown_text
        family = psutil.Process(process.pid).children(recursive=True)
        (server,) = {Path(words[2]) for each in family if (words := command_line(each))[1:2] == ["-D"]}
        assert server.is_dir()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=90)
        assert process.returncode == 130, rest.decode()
        assert rest.decode().rstrip().splitlines()[-1].strip() == "Interrupted; the server and its folder are removed."
    _, alive = psutil.wait_procs(family, timeout=20)
    assert alive == []
    assert not server.parent.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_rollback_that_fails_ends_the_story_with_status_1(tmp_path: Path) -> None:
    with started(tmp_path, subprocess.PIPE, {"LASTGOOD_FAULT": "build.after_load:enospc"}) as process:
        shown_text, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "[FAILED] lastgood rollback ends with status 0: it ended with 5" in shown_text.decode()
    assert shown_text.decode().rstrip().splitlines()[-1].strip() == "The demo ends here."


def test_a_claim_that_does_not_hold_is_counted_and_explained() -> None:
    printed = io.StringIO()
    screen = Screen(Console(file=printed, width=100))
    screen.claim("two and two are four", True)
    screen.claim("the rows are there", False, "3 are missing")
    assert (screen.claims, screen.failed) == (2, ["the rows are there"])
    assert [line.rstrip() for line in printed.getvalue().splitlines()] == [
        "   [ok]     two and two are four",
        "   [FAILED] the rows are there: 3 are missing",
    ]
