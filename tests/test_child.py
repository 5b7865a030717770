"""What is said of a program that failed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

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
