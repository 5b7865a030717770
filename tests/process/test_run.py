"""The message about a failed program, and the end of a foreign one."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from lastgood.process.run import ChildFailed, run_foreign
from tests.support.waiting import until


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        (
            "pg_dump: error: query failed: ERROR:  canceling statement\npg_dump: detail: Query was: SELECT 1",
            "pg_dump exited with status 1: pg_dump: error: query failed: ERROR:  canceling statement",
        ),
        ("one line\nthe last line\n", "pg_dump exited with status 1: the last line"),
        ("", "pg_dump exited with status 1"),
    ],
)
def test_the_decisive_line_is_shown(tail: str, expected: str) -> None:
    assert str(ChildFailed("pg_dump", 1, tail)) == expected


def gone(pid: int) -> bool:
    """Whether a process has ended, even if its parent did not wait for it."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_foreign_program_whose_guard_was_killed_is_ended_and_reported_as_killed(tmp_path: Path) -> None:
    family = tmp_path / "family"
    program = f"""
import os, pathlib, time
pathlib.Path({str(family)!r}).write_text(f"{{os.getpid()}} {{os.getppid()}}\\n")
time.sleep(60)
"""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_foreign, (sys.executable, "-c", program), environment={}, seconds=60)
        until(lambda: family.exists() and family.read_text().endswith("\n"), "the program runs")
        pid, keeper = map(int, family.read_text().split())
        os.kill(keeper, signal.SIGKILL)
        ended = running.result(timeout=60)
    assert ended is not None and ended.status == -9
    until(lambda: gone(pid), "the program is ended")
