"""A helper process of lastgood."""

from __future__ import annotations

import os
import sys
import time

import pytest

from lastgood.process.companion import companion, controlled


def test_a_companion_reads_lines_and_the_end_of_its_input() -> None:
    script = "import sys\nfor line in sys.stdin: print('heard', line.strip(), flush=True)\nprint('over', flush=True)"
    with companion([sys.executable, "-c", script]) as program:
        assert os.getsid(program.pid) == program.pid
        program.write("one")
        assert program.read(20) == "heard one"
        program.write("two")
        assert program.read(20) == "heard two"
    with companion([sys.executable, "-c", "import sys; sys.exit('it failed')"]) as program:
        assert program.read(20) == "it failed"
        assert program.read(20) == ""


def test_reading_from_a_silent_companion_times_out() -> None:
    began = time.monotonic()
    with companion([sys.executable, "-c", "input()"]) as program:
        assert program.read(0.1) is None
        assert time.monotonic() - began < 10
        program.write("")


def test_a_companion_that_cannot_be_started() -> None:
    with pytest.raises(FileNotFoundError), companion(["/nowhere/program"]):
        raise AssertionError("unreachable")


def test_a_talking_program_ignores_ctrl_c_and_ends_with_the_block() -> None:
    with controlled([sys.executable, "-c", "print(input(), flush=True); input()"]) as other:
        assert os.getsid(other.pid) == other.pid
        other.write("one")
        assert other.read(20) == "one"
        pid = other.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
