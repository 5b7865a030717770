"""What is said of a program that failed."""

from __future__ import annotations

import pytest

from lastgood.child import ChildFailed


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
