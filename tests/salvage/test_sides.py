"""Special cases of the merge, on three schemas of one database."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood.errors import Failed
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.postgres.server import Target
from lastgood.salvage.plan import Chosen
from lastgood.salvage.policy import Policies
from tests.salvage import sides
from tests.salvage.sides import LIVE, THEIRS

_numbers = itertools.count(1)


@pytest.fixture
def target(server: EmbeddedServer, new_database: Callable[..., str]) -> Target:
    return server.target(new_database("salvage"))


def salvage(target: Target, state: Path, **chosen: object) -> dict[tuple[str, str, str | None, str], int]:
    run = f"20260101-000000-{next(_numbers):08x}"
    found = sides.salvaged(target, state, run, Chosen.model_validate(chosen))
    return {(each.name, one.kind, one.action, one.why): one.rows for each in found for one in each.sums}


def test_a_foreign_key_of_one_partition_is_checked_by_the_server(target: Target, tmp_path: Path) -> None:
    sides.everywhere(
        target,
        "CREATE TABLE part (id int, r int, PRIMARY KEY (r, id)) PARTITION BY RANGE (r);"
        "CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (10);"
        "CREATE TABLE child (id int PRIMARY KEY, r int, part int, FOREIGN KEY (r, part) REFERENCES part_low (r, id));"
        "INSERT INTO part VALUES (1, 1)",
    )
    sides.inside(target, THEIRS, "INSERT INTO child VALUES (1, 1, 1)")
    sides.inside(target, LIVE, "DELETE FROM part")
    with pytest.raises(Failed, match='violates foreign key constraint "child_r_part_fkey"'):
        salvage(target, tmp_path)
    sides.inside(target, LIVE, "INSERT INTO part VALUES (1, 1)")
    assert salvage(target, tmp_path) == {("child", "insert", "insert", ""): 1}


def test_two_rows_exchange_unique_values(target: Target, tmp_path: Path) -> None:
    sides.everywhere(
        target,
        "CREATE TABLE t (id int PRIMARY KEY, b text UNIQUE, only_here text,"
        " up text GENERATED ALWAYS AS (b || '!') STORED);"
        "INSERT INTO t VALUES (1, 'x', 'kept'), (2, 'y', 'kept')",
    )
    sides.inside(
        target,
        THEIRS,
        "ALTER TABLE t DROP only_here; UPDATE t SET b = 'z' WHERE id = 1; UPDATE t SET b = 'x' WHERE id = 2;"
        "UPDATE t SET b = 'y' WHERE id = 1",
    )
    assert salvage(target, tmp_path) == {("t", "update", "update", ""): 2}
    with target.connect() as connection:
        assert connection.execute("SELECT * FROM live.t ORDER BY id").fetchall() == [
            (1, "y", "kept", "y!"),
            (2, "x", "kept", "x!"),
        ]


def test_children_of_a_renumbered_row_follow_it_across_tables(target: Target, tmp_path: Path) -> None:
    sides.everywhere(
        target,
        "CREATE TABLE a (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, n text);"
        "CREATE TABLE b (id serial PRIMARY KEY, a_id int REFERENCES a, b_id int REFERENCES b);",
    )
    sides.inside(
        target, THEIRS, "INSERT INTO a (n) VALUES ('theirs'); INSERT INTO b (a_id, b_id) VALUES (1, 1), (1, 1)"
    )
    sides.inside(target, LIVE, "INSERT INTO a (n) VALUES ('ours'); INSERT INTO b (a_id) VALUES (1)")
    chosen = {"policies": Policies(insert_exists="renumber")}
    salvage(target, tmp_path, **chosen)
    with target.connect() as connection:
        assert connection.execute(
            "SELECT b.id, a.n, b.b_id FROM live.b JOIN live.a ON a.id = b.a_id ORDER BY 1"
        ).fetchall() == [(1, "ours", None), (2, "theirs", 3), (3, "theirs", 3)]


def test_a_parent_goes_with_all_copies_of_a_child_without_a_key(target: Target, tmp_path: Path) -> None:
    """Of the second parent, one copy more is in the live database."""
    sides.everywhere(
        target,
        "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (parent int REFERENCES parent, n text);"
        "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, NULL), (1, NULL), (2, '')",
    )
    sides.inside(target, THEIRS, "DELETE FROM child; DELETE FROM parent")
    sides.inside(target, LIVE, "INSERT INTO child VALUES (2, '')")
    assert salvage(target, tmp_path, deletes=True) == {
        ("parent", "delete", "delete", ""): 1,
        ("parent", "delete", None, "child_exists"): 1,
        ("child", "delete", "delete", ""): 3,
    }
    with target.connect() as connection:
        assert connection.execute("SELECT c.parent, p.id FROM live.child c, live.parent p").fetchall() == [(2, 2)]


def test_a_row_without_a_value_that_the_live_database_requires_is_left_out(target: Target, tmp_path: Path) -> None:
    sides.everywhere(target, "CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'x'), (2, 'x')")
    sides.inside(target, THEIRS, "INSERT INTO t VALUES (3, 'new'); UPDATE t SET b = 'user'")
    sides.inside(target, LIVE, "DELETE FROM t WHERE id = 2; ALTER TABLE t ADD c int NOT NULL DEFAULT 1")
    sides.inside(target, LIVE, "ALTER TABLE t ALTER c DROP DEFAULT")
    chosen = {"policies": Policies(update_missing="theirs")}
    assert salvage(target, tmp_path, **chosen) == {
        ("t", "insert", None, "value_required"): 1,
        ("t", "update", None, "value_required"): 1,
        ("t", "update", "update", ""): 1,
    }
    sides.inside(target, LIVE, "ALTER TABLE t ALTER c SET DEFAULT 7")
    assert salvage(target, tmp_path, **chosen)["t", "insert", "insert", ""] == 1


def test_a_second_null_of_a_key_with_equal_nulls_is_left_out(target: Target, tmp_path: Path) -> None:
    sides.everywhere(target, "CREATE TABLE t (id int PRIMARY KEY, b text, UNIQUE NULLS NOT DISTINCT (b))")
    sides.inside(target, THEIRS, "INSERT INTO t VALUES (1, NULL), (3, 'x')")
    sides.inside(target, LIVE, "INSERT INTO t VALUES (2, NULL)")
    assert salvage(target, tmp_path) == {
        ("t", "insert", None, "unique_exists"): 1,
        ("t", "insert", "insert", ""): 1,
    }
