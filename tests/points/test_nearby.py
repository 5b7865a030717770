"""Restore points in folders below the store and the working folder, where scripts put them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lastgood import points
from lastgood.errors import BadPoint

HEADER = "--\n-- PostgreSQL database dump\n--\n\nSET statement_timeout = 0;\n"


@pytest.fixture
def dump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes what begins like a dump, in the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(name: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEADER)
        return path

    return write


def names(found: list[points.RestorePoint]) -> list[str]:
    return [str(each.path) for each in found]


def test_two_levels_below_the_store_the_newest_first(dump: Callable[[str], Path]) -> None:
    dump("backups/crm_20251101_100000.sql")
    dump("backups/migrations/cloud_backup_20251103_100000.sql")
    dump("backups/migrations/2025/cloud_backup_20251102_100000.sql")
    dump("backups/a/b/c/cloud_backup_20251109_100000.sql")
    dump("backups/.trial_x/crm_20251109_100000.sql")
    assert names(points.all_points(Path("backups"))) == [
        "backups/migrations/cloud_backup_20251103_100000.sql",
        "backups/migrations/2025/cloud_backup_20251102_100000.sql",
        "backups/crm_20251101_100000.sql",
    ]


def test_a_folder_of_migrations_is_no_folder_of_dumps(dump: Callable[[str], Path]) -> None:
    dump("db/crm_20251101_100000.sql")
    Path("db/migrations").mkdir()
    Path("db/migrations/20251105_add.sql").write_text("CREATE TABLE x ();\nINSERT INTO x DEFAULT VALUES;\n")
    assert names(points.all_points(Path("db"))) == ["db/crm_20251101_100000.sql"]


def test_links_are_not_followed(dump: Callable[[str], Path], tmp_path: Path) -> None:
    dump("other/secret_20251103_100000.sql")
    dump("backups/crm_20251101_100000.sql")
    Path("backups/linked").symlink_to(tmp_path / "other")
    Path("backups/inside").mkdir()
    Path("backups/inside/latest.sql").symlink_to(tmp_path / "other/secret_20251103_100000.sql")
    assert names(points.all_points(Path("backups"))) == ["backups/crm_20251101_100000.sql"]


def test_the_search_ends_after_so_many_files(dump: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lastgood.points.nearby.FILES", 3)
    for number in range(9):
        dump(f"backups/sub/crm_2025110{number + 1}_100000.sql")
    assert len(points.all_points(Path("backups"))) == 4


def test_one_is_named_by_its_place_or_its_file_name(dump: Callable[[str], Path]) -> None:
    path = dump("backups/migrations/cloud_backup_20251103_100000.sql")
    store = Path("backups")
    for name in ("migrations/cloud_backup_20251103_100000.sql", path.name, str(path)):
        assert points.find(store, name).path == path


def test_a_near_match_is_suggested(dump: Callable[[str], Path]) -> None:
    dump("backups/migrations/cloud_backup_20251103_100000.sql")
    dump("backups/crm_20240101_000000.sql")
    with pytest.raises(BadPoint) as error:
        points.find(Path("backups"), "cloud_backup_20251103_10000.sql")
    assert error.value.hint.startswith(
        "Did you mean migrations/cloud_backup_20251103_100000.sql? Available: migrations/cloud_backup_20251103_"
    )
    # A part of a name is a name with a typing error, too; of several, the newest is meant.
    with pytest.raises(BadPoint) as error:
        points.find(Path("backups"), "cloud_backup")
    assert error.value.hint.startswith("Did you mean migrations/cloud_backup_20251103_100000.sql? ")


def test_where_the_store_has_none_the_folders_that_have_some_are_named(dump: Callable[[str], Path]) -> None:
    dump("db/dumps/crm_20251101_100000.sql")
    dump("db/dumps/crm_20251102_100000.sql")
    dump("old/crm_20241102_100000.sql")
    dump("old/emergency_20251102_100000.sql")
    with pytest.raises(BadPoint) as error:
        points.choose(Path("backups"))
    assert str(error.value) == (
        'cannot find a restore point in "backups": the folder does not exist; found 2 in "db/dumps", 1 in "old"'
    )
    assert error.value.hint == (
        "Run: lastgood rollback --store db/dumps; the newest there is crm_20251102_100000.sql (2025-11-02 10:00:00 "
        "UTC)."
    )
    with pytest.raises(BadPoint) as error:
        points.find(Path("backups"), "crm.sql")
    assert error.value.hint == (
        'The store is empty; name another folder with --store. Restore points exist in "db/dumps", "old".'
    )


def test_the_working_folder_of_the_guide_is_left_out(dump: Callable[[str], Path]) -> None:
    """It has parts of a restore point, which look like damaged dumps."""
    dump("backups/crm_20251101_100000.sql")
    dump("backups/by-hand-1/point.sql")
    dump("backups/by-hand-crm/crm_20251102_100000.sql")
    assert names(points.all_points(Path("backups"))) == [
        "backups/by-hand-crm/crm_20251102_100000.sql",
        "backups/crm_20251101_100000.sql",
    ]
