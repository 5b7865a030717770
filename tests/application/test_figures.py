"""When a figure is worse than before: with the floors that keep a quiet night from raising alarms."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lastgood.application.figures import KINDS, compare, figures_of
from lastgood.postgres.pressure.activity import Sample

QUIET = Sample(at=0.0, commits=0, rollbacks=0, deadlocks=0, conflicts=0, ended=0, connections=10, lock_waits=0)


@pytest.mark.parametrize(
    ("name", "before", "after", "verdict"),
    [
        ("rollbacks", 0.0, 0.0, "same"),
        ("rollbacks", 0.0, 0.4, "same"),  # a few in a minute, after none: not yet
        ("rollbacks", 0.0, 0.5, "worse"),
        ("rollbacks", 0.01, 0.4, "same"),  # forty times almost nothing
        ("rollbacks", 10.0, 29.9, "same"),
        ("rollbacks", 10.0, 30.0, "worse"),
        ("rollbacks", 10.0, 0.0, "same"),
        ("deadlocks", 0.0, 0.04, "same"),
        ("deadlocks", 0.0, 0.05, "worse"),
        ("lock_waits", 0.0, 1.9, "same"),
        ("lock_waits", 0.0, 2.0, "worse"),
        ("connections", 10.0, 25.0, "same"),
        ("connections", 10.0, 30.0, "worse"),
        ("connections", 10.0, 0.0, "worse"),  # no client reconnected
        ("connections", 0.0, 0.0, "same"),
        ("statement_time", 1.0, 5.0, "same"),
        ("statement_time", 5.0, 20.0, "worse"),
        ("statement_time", None, 20.0, "unknown"),
        ("statement_time", 5.0, None, "unknown"),
    ],
)
def test_verdicts(name: str, before: float | None, after: float | None, verdict: str) -> None:
    (figure,) = compare({name: before}, {name: after}, 3.0)
    assert (figure.name, figure.before, figure.after, figure.verdict) == (name, before, after, verdict)


def test_what_is_known_at_no_time_is_left_out() -> None:
    assert compare({}, {}, 3.0) == ()
    assert {each.name for each in KINDS} >= set(figures_of([QUIET, replace(QUIET, at=1.0)]))


def test_rates_and_averages() -> None:
    later = replace(QUIET, at=10.0, rollbacks=5, deadlocks=1, ended=2, connections=20, lock_waits=4)
    assert figures_of([QUIET, later]) == {
        "rollbacks": 0.5,
        "deadlocks": 0.1,
        "conflicts": 0.0,
        "ended_sessions": 0.2,
        "lock_waits": 2.0,
        "statement_time": None,
        "connections": 15.0,
    }


def test_reset_counters_are_unknown() -> None:
    assert figures_of([replace(QUIET, rollbacks=7), replace(QUIET, at=1.0)])["rollbacks"] is None
    assert figures_of([QUIET, QUIET])["rollbacks"] is None


def test_the_time_of_a_statement() -> None:
    first = replace(QUIET, calls=100, milliseconds=1000.0)
    assert figures_of([first, replace(first, at=1.0, calls=110, milliseconds=1050.0)])["statement_time"] == 5.0
    assert figures_of([first, replace(first, at=1.0)])["statement_time"] is None  # none was run
