"""What --quick reads of each table, so that all of it fits into its time."""

from __future__ import annotations

import pytest

from lastgood.command.validate.budget import LEAST_PAGES, MOST_WHOLE, PAGES_A_SECOND, largest_share, planned, samples
from lastgood.command.validate.rule import Mode, Rule, RuleTask


def task(name: str, pages: int, *, extra_pages: int = 0, sampled: bool = True) -> RuleTask:
    return RuleTask(
        (Rule(name, "kind"),), lambda reader, sample: [], pages=pages, extra_pages=extra_pages, sampled=sampled
    )


@pytest.mark.parametrize(
    ("pages", "budget", "share"),
    [
        ([], 100, 0),
        ([1000, 2000], 5000, 2000),  # all fit
        ([1000, 9000, 9000], 11000, 5000),  # the small one leaves its rest to the others
        ([9000, 9000], 10, LEAST_PAGES),
        ([0, 0, 8000], 4000, 4000),
    ],
)
def test_small_tables_leave_room_for_large_ones(pages: list[int], budget: int, share: int) -> None:
    assert largest_share(pages, budget) == share


def test_only_quick_takes_samples_and_only_of_what_is_much_too_large() -> None:
    tasks = [task("small", 100), task("large", 5 * PAGES_A_SECOND), task("whole", 10**6, sampled=False)]
    assert samples(tasks, "full", 1.0) == [None, None, None]
    assert samples(tasks, "quick", 10.0) == [None, None, None]
    assert samples(tasks, "quick", 1.0) == [None, 19.6, None]
    huge = [task("huge", 10**9)]
    assert samples(huge, "quick", 1.0) == [0.01]


@pytest.mark.parametrize(("mode", "order"), [("quick", ["a", "c", "b"]), ("full", ["b", "c", "a"])])
def test_quick_takes_the_cheapest_first_and_full_the_longest(mode: Mode, order: list[str]) -> None:
    tasks = [task("a", 10), task("b", 500), task("c", 20, extra_pages=300)]
    assert [each.task.rules[0].name for each in planned(tasks, mode, 120.0)] == order


def test_what_needs_all_of_a_large_table_is_left_to_full() -> None:
    large = task("large", MOST_WHOLE + 1, sampled=False)
    (quick,) = planned([large], "quick", 120.0)
    (found,) = quick.task.run(None, None)  # type: ignore[arg-type]  # it needs no connection
    assert (found.skipped, found.message) == ("size", "the table is too large for --quick; --full checks it")
    assert planned([large], "full", 0.0)[0].task is large
