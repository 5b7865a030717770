"""A foreign program under our eyes: its lines, and its end with all that it has started."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from lastgood.process.supervised import LINE_CHARACTERS, SupervisedProgram, end_all, lines_of, marked_processes
from tests.support.waiting import until

MARK = ("LASTGOOD_DEPLOYMENT", f"test-{os.getpid()}")


def run(*arguments: str, seconds: float = 20.0, stop: Iterable[bool] = ()) -> tuple[object, list[str]]:
    printed: list[str] = []
    asked = iter(stop)
    started = SupervisedProgram(arguments, environment=dict(os.environ), mark=MARK, line=printed.append)
    ended = started.wait(seconds, lambda: next(asked, False))
    return (ended.status if ended is not None else "cancelled"), printed


def test_lines_come_as_they_are_printed() -> None:
    status, printed = run("sh", "-c", "echo one; echo two >&2; printf 'three'; exit 7")
    assert (status, printed) == (7, ["one", "two", "three"])


def test_a_signal_and_a_time_limit() -> None:
    assert run("sh", "-c", "kill -TERM $$")[0] == -15
    began = time.monotonic()
    assert run("sleep", "60", seconds=0.2)[0] is None
    assert run("sleep", "60", stop=[False, True])[0] == "cancelled"
    assert time.monotonic() - began < 15


def test_children_that_went_elsewhere_are_ended_too(tmp_path: Path) -> None:
    # One has left the process group, the other one does not listen.
    script = "setsid sleep 60 & sh -c \"trap '' TERM; touch deaf; sleep 60; sleep 60\" & wait"
    printed: list[str] = []
    started = SupervisedProgram(
        ["sh", "-c", script], environment=dict(os.environ), mark=MARK, line=printed.append, folder=tmp_path
    )
    until(lambda: len(marked_processes(MARK)) >= 4 and (tmp_path / "deaf").exists(), "all of them are there")
    assert end_all(started.group, MARK, patience=0.5) >= 3
    assert marked_processes(MARK) == []
    assert started.wait(0.0, lambda: False) is not None


def test_what_it_leaves_running_does_not_keep_us(tmp_path: Path) -> None:
    began = time.monotonic()
    status, printed = run("sh", "-c", "sleep 60 & echo done")
    assert (status, printed) == (0, ["done"])
    assert time.monotonic() - began < 15
    (left,) = marked_processes(MARK)
    os.kill(left, signal.SIGKILL)


@pytest.mark.parametrize(
    ("printed", "lines"),
    [
        (b"\x1b[32mgreen\x1b[0m\nplain", ["green", "plain"]),
        (b"10%\r50%\r100%\r\nnext\r\n", ["100%", "next"]),
        (b"\x1b]0;title\x07text\n\n", ["text", ""]),
        (b"\xff\n", ["\ufffd"]),
        (b"x" * 1_000_000 + b"\nend\n", ["x" * LINE_CHARACTERS + " …", "end"]),
    ],
)
def test_what_a_terminal_would_show(tmp_path: Path, printed: bytes, lines: list[str]) -> None:
    path = tmp_path / "output"
    path.write_bytes(printed)
    with path.open("rb") as output:
        assert list(lines_of(iter(lambda: output.read(1 << 16), b""))) == lines


@pytest.mark.parametrize("left_open", [False, True], ids=["its pipe ends", "a child holds it open"])
def test_all_that_it_printed_is_read_however_slowly(left_open: bool) -> None:
    child = "import subprocess; subprocess.Popen(['sleep', '60']); "
    script = f"{child if left_open else ''}print(*range(4), sep=chr(10), flush=True)"
    read: list[str] = []
    never = threading.Event()

    def slowly(text: str) -> None:
        never.wait(0.4)  # a busy machine: longer than a moment for all of them
        read.append(text)

    started = SupervisedProgram([sys.executable, "-c", script], environment=dict(os.environ), mark=MARK, line=slowly)
    ended = started.wait(20.0, lambda: False)
    started.end()
    assert ended is not None and ended.status == 0
    assert read == ["0", "1", "2", "3"]


def test_a_program_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        SupervisedProgram(["/nowhere/program"], environment={}, mark=MARK, line=print)


def test_the_environment_is_what_it_was_given() -> None:
    script = "import os; print(sorted(os.environ.items()))"
    printed: list[str] = []
    SupervisedProgram(
        [sys.executable, "-c", script], environment={"LC_CTYPE": "C.UTF-8"}, mark=MARK, line=printed.append
    ).wait(20.0, lambda: False)
    assert printed == [str(sorted([MARK, ("LC_CTYPE", "C.UTF-8")]))]
