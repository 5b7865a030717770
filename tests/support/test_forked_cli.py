"""A process that a warm program forks is like one that was started."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lastgood import __version__
from lastgood.errors import SHOW_STATE, UNKNOWN_STATE
from tests.cli.conftest import clean_environment as clean_environment
from tests.support import forked_cli


def test_what_it_prints_and_how_it_ends_is_that_of_the_real_one(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(forked_cli.ROOT / "src"), "LASTGOOD_DB": "host=/nowhere dbname=x"}
    for arguments in (["status"], ["rolback"]):
        real = subprocess.run(
            [sys.executable, "-m", "lastgood", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
        ours = forked_cli.run(*arguments, environment=environment, folder=tmp_path)
        assert (ours.returncode, ours.stdout, ours.stderr) == (real.returncode, real.stdout, real.stderr)
    assert f"lastgood {__version__}\n" == forked_cli.run("--version").stdout


def test_a_signal_ends_it_and_nothing_else(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for number, status, output in ((signal.SIGKILL, -9, ""), (signal.SIGINT, 130, "error: interrupted\n")):
        with forked_cli.Process("explain", str(pipe)) as process:
            assert process.poll() is None
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.0)
            with pipe.open("w"):  # it reads: it has begun its work
                process.send_signal(number)
                assert process.wait(60) == process.poll() == status
            assert process.communicate(60) == (
                "",
                output + f"state: {UNKNOWN_STATE}\nnext:  {SHOW_STATE}\n" * bool(output),
            )
    assert forked_cli.run("--version").returncode == 0


def test_a_fault_that_its_environment_names_strikes_it(tmp_path: Path) -> None:
    environment = {**os.environ, "LASTGOOD_FAULT": "nonsense"}
    assert forked_cli.run("--version", environment=environment).returncode == 1
    assert forked_cli.run("--version").returncode == 0


def test_a_terminal_of_its_own() -> None:
    ours, theirs = pty.openpty()
    process = forked_cli.Process("--version", terminal=theirs, session=True)
    os.close(theirs)
    assert os.read(ours, 100) == f"lastgood {__version__}\r\n".encode()
    assert process.wait(60) == 0
    os.close(ours)
