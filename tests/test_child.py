"""What is said of a program that failed, and one that runs beside us."""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from lastgood import child
from lastgood.child import ChildFailed
from lastgood.names import new_run


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        (
            "pg_dump: error: query failed: ERROR:  canceling statement\npg_dump: detail: Query was: SELECT 1",
            "pg_dump ended with status 1: pg_dump: error: query failed: ERROR:  canceling statement",
        ),
        ("one line\nthe last line\n", "pg_dump ended with status 1: the last line"),
        ("", "pg_dump ended with status 1"),
    ],
)
def test_the_line_that_tells_is_shown(tail: str, said: str) -> None:
    assert str(ChildFailed("pg_dump", 1, tail)) == said


def test_a_run_is_named_in_utc_whatever_the_session_s_time_zone() -> None:
    moment = datetime(2025, 11, 4, 14, 30, tzinfo=UTC).astimezone(timezone(timedelta(hours=5, minutes=45)))
    assert new_run(moment).startswith("20251104-143000-")


def test_a_companion_hears_us_and_sees_our_end() -> None:
    script = "import sys\nfor line in sys.stdin: print('heard', line.strip(), flush=True)\nprint('over', flush=True)"
    with child.beside([sys.executable, "-c", script]) as companion:
        assert os.getsid(companion.pid) == companion.pid
        companion.say("one")
        assert companion.hear(20) == "heard one"
        companion.say("two")
        assert companion.hear(20) == "heard two"
    with child.beside([sys.executable, "-c", "import sys; sys.exit('it failed')"]) as companion:
        assert companion.hear(20) == "it failed"
        assert companion.hear(20) == ""


def test_what_a_companion_does_not_say_is_not_waited_for_longer() -> None:
    began = time.monotonic()
    with child.beside([sys.executable, "-c", "input()"]) as companion:
        assert companion.hear(0.1) is None
        assert time.monotonic() - began < 10
        companion.say("")


def test_a_companion_that_can_t_be_started() -> None:
    with pytest.raises(FileNotFoundError), child.beside(["/nowhere/program"]):
        raise AssertionError("unreachable")
