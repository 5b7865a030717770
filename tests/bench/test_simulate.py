"""Schedules that can be worked out by hand."""

from __future__ import annotations

import pytest

from bench.costs import Costs, ForeignKey, Index, Table
from bench.simulate import Task, of_gigabytes, scheduled, table_of, tasks_of


def test_one_core_does_all_the_work() -> None:
    done = scheduled([Task("a", 2), Task("b", 3, ("a",)), Task("c", 4)], 1)
    assert done.makespan == done.work == done.ideal == 9
    assert done.efficiency == 1


def test_the_longest_chain_goes_first() -> None:
    done = scheduled([Task("a", 2), Task("b", 3, ("a",)), Task("c", 4)], 2)
    assert done.begins == {"a": 0, "c": 0, "b": 2}
    assert done.makespan == done.path_seconds == 5
    assert done.path == ("a", "b")


def test_locks_are_exclusive_and_shares_are_not() -> None:
    tasks = [Task("a", 2, locks={"t"}), Task("b", 3, shares={"t"}), Task("c", 3, shares={"t"})]
    done = scheduled(tasks, 3)
    assert (done.begins["b"], done.begins["c"], done.begins["a"]) == (0, 0, 3)
    assert done.makespan == 5


def test_a_circle_is_refused() -> None:
    with pytest.raises(ValueError, match="these tasks wait for each other: a, b"):
        scheduled([Task("a", 1, ("b",)), Task("b", 1, ("a",))], 2)


INDEX = Index(name="i", seconds=4)
COSTS = Costs(
    major=18,
    plain_bytes=1_000_000_000,
    reading=2.0,
    tables=(
        Table(
            name="a", bytes=750_000_000, rows=1000, load=6, analyze=0, proof=3, indexes=(Index(name="i", seconds=4),)
        ),
        Table(name="b", bytes=250_000_000, rows=1000, load=2, analyze=0, proof=1, indexes=()),
    ),
    foreign_keys=(ForeignKey(name="k", table="a", references="b", seconds=1),),
)


def test_the_work_of_a_restore() -> None:
    tasks = {task.name: task for task in tasks_of(COSTS, chunk=250_000_000)}
    assert sum(task.seconds for task in tasks.values()) == pytest.approx(2 + 6 + 3 + 4 + 2 + 1 + 1)
    assert tasks["load a, part 2 of 3"].after == ("read a, part 2 of 3",)
    assert tasks["read a, part 3 of 3"].after == ("read a, part 2 of 3",)
    assert tasks["read b, part 1 of 1"].after == ("read a, part 3 of 3",)
    assert tasks["index i"].after == tuple(f"load a, part {number} of 3" for number in (1, 2, 3))
    assert {"index i", "load b, part 1 of 1"} < {*tasks["foreign key k"].after}
    readers = {task.name: task for task in tasks_of(COSTS, chunk=250_000_000, readers=2)}
    assert readers["read a, part 2 of 3"].after == ()
    assert readers["read a, part 3 of 3"].after == ("read a, part 1 of 3",)


def test_a_hundred_gigabytes() -> None:
    one, many = (of_gigabytes(COSTS, cores=cores, gigabytes=100) for cores in (1, 16))
    # A hundred times the work, and some more for the sort.
    assert one.makespan == pytest.approx(1500 + 400 + 400 * 2 / 3)
    assert one.makespan / 16 < many.makespan < one.makespan
    assert many.path[-2:] == ("index i", "foreign key k")
    assert "→ load a → index i → foreign key k." in table_of([one, many])
