"""A program of ours that runs beside us."""

from __future__ import annotations

import os
import sys
import time

import pytest

from lastgood.process.companion import beside, talking


def test_a_companion_hears_us_and_sees_our_end() -> None:
    script = "import sys\nfor line in sys.stdin: print('heard', line.strip(), flush=True)\nprint('over', flush=True)"
    with beside([sys.executable, "-c", script]) as companion:
        assert os.getsid(companion.pid) == companion.pid
        companion.say("one")
        assert companion.hear(20) == "heard one"
        companion.say("two")
        assert companion.hear(20) == "heard two"
    with beside([sys.executable, "-c", "import sys; sys.exit('it failed')"]) as companion:
        assert companion.hear(20) == "it failed"
        assert companion.hear(20) == ""


def test_what_a_companion_does_not_say_is_not_waited_for_longer() -> None:
    began = time.monotonic()
    with beside([sys.executable, "-c", "input()"]) as companion:
        assert companion.hear(0.1) is None
        assert time.monotonic() - began < 10
        companion.say("")


def test_a_companion_that_can_t_be_started() -> None:
    with pytest.raises(FileNotFoundError), beside(["/nowhere/program"]):
        raise AssertionError("unreachable")


def test_who_is_talked_to_is_out_of_the_reach_of_ctrl_c_and_does_not_outlive_the_block() -> None:
    with talking([sys.executable, "-c", "print(input(), flush=True); input()"]) as other:
        assert os.getsid(other.pid) == other.pid
        other.say("one")
        assert other.hear(20) == "one"
        pid = other.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
