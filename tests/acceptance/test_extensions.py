"""Databases with extensions that make tables: their restore points go back, and nothing is lost without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood import rollback
from lastgood.plan import Request
from lastgood.points.dump_point import take
from lastgood.postgres.embedded import EmbeddedServer
from lastgood.report import Report
from lastgood.restore import restore
from tests.acceptance.test_rollback import Stage
from tests.twins import assert_same_text, dump

pytestmark = [pytest.mark.extended, pytest.mark.postgres(15, 18)]


@pytest.fixture
def stage(server: EmbeddedServer, new_database: Callable[..., str], store: Path, tmp_path: Path) -> Stage:
    """An empty live database."""
    live = new_database()
    return Stage(server, live, Request(server.target(live), store, tmp_path / "state"))


def make(stage: Stage, *statements: str) -> None:
    with stage.server.target(stage.live).connect() as connection:
        connection.execute("SET search_path = public")
        for statement in statements:
            connection.execute(statement.encode())


def there_and_back(stage: Stage, folder: Path) -> Report:
    """Backs up, rolls back, and compares with what was replaced: pg_dump writes the same of both."""
    take(stage.request.target, stage.request.store)
    report = stage.rollback()
    stage.open_kept(report.kept)
    assert_same_text(stage.server, report.kept, stage.live, folder)
    return report


def test_a_policy_of_an_extension_is_no_part_of_a_restore_point(stage: Stage, tmp_path: Path) -> None:
    make(stage, "CREATE EXTENSION minipol", "INSERT INTO minipol.job VALUES (1, 'x')")
    there_and_back(stage, tmp_path)
    assert stage.value("SELECT count(*) FROM pg_policy") == 1
    dump(stage.server, stage.live, stage.request.store / "plain.sql")
    restore(stage.request.target, stage.request.store, "plain.sql", f"{stage.live}_copy")
    assert stage.value("SELECT cmd FROM minipol.job", database=f"{stage.live}_copy") == "x"


@pytest.mark.parametrize("options", [(), ("--format=custom",), ("--inserts",)], ids=["plain", "custom", "inserts"])
def test_rows_of_an_extensions_tables_go_in_as_their_keys_need(
    stage: Stage, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """By the alphabet, and by their size, the child comes first."""
    make(
        stage,
        "CREATE EXTENSION minifk",
        "INSERT INTO parent_conf SELECT generate_series(1, 50)",
        "INSERT INTO child_conf SELECT g, 1 + g % 50 FROM generate_series(1, 100000) g",
    )
    dump(stage.server, stage.live, stage.request.store / "point", *options)
    restore(stage.request.target, stage.request.store, "point", f"{stage.live}_copy")
    assert_same_text(stage.server, stage.live, f"{stage.live}_copy", tmp_path)


@pytest.mark.parametrize("options", [("--exclude-table-data=built*",), ("--inserts",)])
def test_an_extensions_table_that_is_empty_or_not_told_of(
    stage: Stage, tmp_path: Path, options: tuple[str, ...]
) -> None:
    make(stage, "CREATE EXTENSION minibuilt", "DELETE FROM built_child", "DELETE FROM built")
    dump(stage.server, stage.live, stage.request.store / "point", *options)
    restore(stage.request.target, stage.request.store, "point", f"{stage.live}_copy")
    assert stage.value("SELECT count(*) FROM built", database=f"{stage.live}_copy") == (
        0 if "--inserts" in options else 2
    )


def test_rows_that_extensions_bring_along_give_way_before_those_that_they_reference(
    stage: Stage, tmp_path: Path
) -> None:
    make(stage, "CREATE EXTENSION minibuilt", "UPDATE built_child SET v = 'changed'", "INSERT INTO built VALUES (3)")
    report = there_and_back(stage, tmp_path)
    why = "that its extension brought along gave way to those of the restore point"
    assert [(each.what, each.why) for each in report.repaired] == [
        ("rows of public.built_child", f"1 row {why}"),
        ("rows of public.built", f"2 rows {why}"),
    ]


@pytest.mark.parametrize("options", [(), ("--inserts",), ("--column-inserts", "--disable-triggers")])
def test_two_files_have_the_rows_of_an_extensions_table(stage: Stage, tmp_path: Path, options: tuple[str, ...]) -> None:
    make(
        stage,
        "CREATE EXTENSION minitab",
        "CREATE EXTENSION minimax",
        "INSERT INTO minitab_conf VALUES (2, 'mine', false)",
        "SELECT setval('mseqconf', 43)",
        "CREATE TABLE t (id int PRIMARY KEY)",
        "INSERT INTO t VALUES (1)",
    )
    folder = stage.request.store / "both"
    folder.mkdir()
    dump(stage.server, stage.live, folder / "schema.sql", "--schema-only")
    dump(stage.server, stage.live, folder / "data.sql", "--data-only", *options)
    restore(stage.request.target, stage.request.store, "both", f"{stage.live}_copy")
    assert_same_text(stage.server, stage.live, f"{stage.live}_copy", tmp_path)
    (tmp_path / "again").mkdir()
    report = rollback.run(rollback.plan(stage.request))
    stage.open_kept(report.kept)
    assert_same_text(stage.server, report.kept, stage.live, tmp_path / "again")


def test_rows_that_neither_a_file_nor_an_extension_has_a_table_for_are_left_out(stage: Stage, tmp_path: Path) -> None:
    make(
        stage, "CREATE EXTENSION minitab", "CREATE TABLE t (id int)", "CREATE SCHEMA auth", "CREATE TABLE auth.users ()"
    )
    make(stage, "CREATE SEQUENCE auth.ids", "INSERT INTO auth.users DEFAULT VALUES")
    folder = stage.request.store / "both"
    folder.mkdir()
    dump(stage.server, stage.live, folder / "schema.sql", "--schema-only", "--exclude-schema=auth", "--extension=*")
    dump(stage.server, stage.live, folder / "data.sql", "--data-only")
    plan = rollback.plan(stage.request).plan
    assert [(each.code, each.text) for each in plan.refusals] == [
        (
            "rows_without_table",
            "the restore point has rows of auth.users, auth.ids, and makes no such table: it can't replace a whole "
            "database",
        )
    ]
    report = restore(stage.request.target, stage.request.store, "both", f"{stage.live}_copy")
    rows, position = [each for each in report.skipped if "auth" in each.what]
    assert (rows.what, rows.why) == (
        "rows of auth.users",
        "neither the files of the dump nor their extensions make this table",
    )
    assert position.what == "sequence position on auth.ids"
