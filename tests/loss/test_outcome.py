"""Random histories of tables: the rows that a plan counts are those that the rollback loses, returns and changes.

Each history is a table with a restore point and random writes and definitions after it. Many of them share a database,
which is rolled back by name or in place; then every row of both sides is read. The long form, with LASTGOOD_LOSS=long,
tries a thousand histories, other ones in each run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood import rollback
from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import Request
from lastgood.points import dump_point
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.kept import read_only
from lastgood.postgres.server import Connection
from tests.conftest import FIRST_SEED
from tests.difference.test_random_tables import (
    KEY_TYPES,
    VALUES,
    Example,
    Rows,
    build,
    change,
    columns_of,
    make_world,
    pin,
    texts,
)

LONG = os.environ.get("LASTGOOD_LOSS") == "long"
DATABASES, TABLES = (40, 25) if LONG else (2, 6)
FIRST = int(os.environ.get(FIRST_SEED, "0")) if LONG else 0
DDL = ("", "", "", "add", "drop", "type", "unkeyed", "gone", "new")


def history(dice: random.Random) -> Example:
    """A random table and its changes."""
    key = dice.choice([0, 1, 1, 2, 3])
    types = [dice.choice(KEY_TYPES) for _ in range(key)]
    types += [dice.choice([*VALUES]) for _ in range(dice.randint(0 if key else 1, 4))]

    def rows(most: int) -> tuple[tuple[int, ...], ...]:
        # A value that is not in the key may be null.
        lowest = [0 if place < key else -1 for place in range(len(types))]
        return (*((*(dice.randint(low, 8) for low in lowest),) for _ in range(dice.randint(0, most))),)

    updated = [
        (dice.randint(0, 20), dice.randrange(len(types)), dice.randint(-1, 8)) for _ in range(dice.randint(0, 6))
    ]
    return Example(
        (*types,), key, dice.random() < 0.5, rows(25), dice.randint(0, 6), (*updated,), rows(8), dice.choice(DDL)
    )  # fmt: skip


def sides(connection: Connection, tables: dict[str, str]) -> dict[str, tuple[list[str], Rows]]:
    """The columns of tables and their rows, by name; ``tables``: where each of them is."""
    pin(connection)
    found = {}
    for name, table in tables.items():
        columns = columns_of(connection, table)
        if columns:
            found[name] = columns, Counter(tuple(row) for row in connection.execute(texts(table, columns).encode()))
    return found


def chosen(rows: Rows, columns: list[str], wanted: list[str]) -> Rows:
    """The rows with some of their columns."""
    places = [columns.index(name) for name in wanted]
    found: Rows = Counter()
    for row, count in rows.items():
        found[tuple(row[place] for place in places)] += count
    return found


def outcome(
    example: Example, before: tuple[list[str], Rows] | None, after: tuple[list[str], Rows] | None, *, keyed: bool
) -> tuple[int, int, int]:
    """The rows that a rollback took, brought and changed."""
    columns = [name for name in (after or before or ([],))[0] if name in (before or after or ([],))[0]]
    old, new = (chosen(side[1], side[0], columns) if side is not None else Counter() for side in (before, after))
    gone, back = old - new, new - old
    if not keyed:
        return gone.total(), back.total(), 0
    places = [columns.index(name) for name in example.names[: example.key]]
    keys = [{tuple(row[place] for place in places) for row in side} for side in (gone, back)]
    return len(keys[0] - keys[1]), len(keys[1] - keys[0]), len(keys[0] & keys[1])


def counted(loss: TableLoss) -> tuple[int, int, int]:
    """The rows of a plan. A table that only one side has is lost or returns as a whole."""
    if loss.live_rows is None or loss.point_rows is None:
        return loss.live_rows or 0, loss.point_rows or 0, 0
    assert loss.counted or loss.content == "equal", loss
    return loss.lost or 0, loss.returns or 0, loss.changed or 0


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("way", ["by-name", "in-place"])
def test_the_rows_that_a_plan_counts_are_those_of_the_rollback(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, way: str
) -> None:
    for seed in range(FIRST + (way == "in-place"), FIRST + DATABASES, 2):
        dice = random.Random(seed)
        histories = {f"h{number}": history(dice) for number in range(TABLES)}
        target = server.target(new_database("outcome"))
        folder = tmp_path / str(seed)
        folder.mkdir()
        request = Request(target=target, store=folder, state=folder / "state", way=way)  # type: ignore[arg-type]
        try:
            judge(request, histories)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error


def judge(request: Request, histories: dict[str, Example]) -> None:
    """Build the tables, take the restore point, change them, roll back, and compare the plan with what was done."""
    target = request.target
    with target.connect() as connection:
        pin(connection)
        make_world(connection)
        for name, example in histories.items():
            if example.ddl != "new":
                build(connection, example, name)
        dump_point.take(target, request.store)
        for name, example in histories.items():
            if example.ddl == "new":
                build(connection, example, name)
            elif example.ddl == "gone":
                connection.execute(f"DROP TABLE public.{name}".encode())
            else:
                change(connection, example, name)
    with target.connect() as connection:
        before = sides(connection, {name: f"public.{name}" for name in histories})
    prepared = rollback.plan(request)
    assert prepared.plan.refusals == ()
    report = rollback.run(prepared)
    assert report.loss == prepared.plan.loss
    with target.connect() as connection:
        after = sides(connection, {name: f"public.{name}" for name in histories})
    side = target if "*" in report.kept else read_only(target.at(report.kept))
    with side.connect() as connection:
        schema = report.kept.replace("*", "public") if "*" in report.kept else "public"
        assert sides(connection, {name: f'"{schema}".{name}' for name in histories}) == before
    for loss in prepared.plan.loss:
        if loss.name in histories:
            example = histories[loss.name]
            keyed = loss.changed is not None and example.key > 0
            assert keyed or not example.key or loss.content != "changed" or example.ddl == "unkeyed", (loss, example)
            expected = outcome(example, before.get(loss.name), after.get(loss.name), keyed=keyed)
            assert counted(loss) == expected, (loss, example)
    named = {loss.name for loss in prepared.plan.loss}
    assert named >= before.keys() | after.keys()
