"""Symbolic links in a store: those that stay in it are followed, those that lead out of it are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood import points
from lastgood.errors import Unsafe
from lastgood.points.manifest import manifest_of, manifest_path
from lastgood.points.pins import pin_of, pin_path
from tests.dump.hostile import hostile_dump

DUMP = hostile_dump("")


def outside(path: Path) -> str:
    return f'cannot use "{path}": it is a symbolic link that leads out of its folder'


def test_a_link_out_of_the_store_is_not_followed(store: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.sql").write_bytes(DUMP)
    (store / "out.sql").symlink_to(tmp_path / "secret.sql")
    (store / "up.sql").symlink_to("../secret.sql")
    (store / "circle.sql").symlink_to("circle.sql")
    (store / "folder").symlink_to(tmp_path)
    listed = points.list_points(store)
    assert {point.path.name: point.problem for point in listed} == {
        name: outside(store / name) for name in ("out.sql", "up.sql", "circle.sql")
    }
    for name in ("out.sql", "up.sql", "folder/secret.sql"):
        with pytest.raises(Unsafe) as refused:
            points.find(store, name)
        assert (refused.value.message, refused.value.exit_status) == (outside(store / name), 4)


def test_a_link_within_the_store_and_a_named_one_are_followed(store: Path, tmp_path: Path) -> None:
    (store / "app.sql").write_bytes(DUMP)
    (store / "latest.sql").symlink_to("app.sql")
    (tmp_path / "mine.sql").symlink_to(store / "app.sql")
    assert {point.path.name: point.problem for point in points.list_points(store)} == {"app.sql": "", "latest.sql": ""}
    assert points.find(store, "latest.sql").problem == ""
    assert points.find(store, str(tmp_path / "mine.sql")).problem == ""


def test_files_next_to_a_dump_are_not_followed_either(store: Path, tmp_path: Path) -> None:
    (store / "app.sql").write_bytes(DUMP)
    (tmp_path / "elsewhere").write_text("{}")
    manifest_path(store / "app.sql").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unsafe, match="symbolic link"):
        manifest_of(store / "app.sql")
    (found,) = points.list_points(store)
    assert found.problem == outside(manifest_path(store / "app.sql"))
    pin_path(store / "app.sql").symlink_to(tmp_path / "elsewhere")
    pinned = pin_of(store / "app.sql")
    assert pinned is not None and pinned.reason == 'its pin "app.sql.pin.lastgood.json" cannot be read'


def test_members_of_a_folder(store: Path, tmp_path: Path) -> None:
    archive = store / "app.dir"
    archive.mkdir()
    (tmp_path / "toc.dat").write_bytes(b"PGDMP")
    (archive / "toc.dat").symlink_to(tmp_path / "toc.dat")
    with pytest.raises(Unsafe) as refused:
        points.source_of(points.find(store, "app.dir"))
    assert refused.value.message == outside(archive / "toc.dat")
    folder = store / "set"
    folder.mkdir()
    (folder / "schema.sql").write_bytes(DUMP)
    (folder / "data.sql").symlink_to(tmp_path / "toc.dat")
    assert "set" not in {point.path.name for point in points.list_points(store)}


def test_a_huge_manifest_is_not_read(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (store / "app.sql").write_bytes(DUMP)
    with manifest_path(store / "app.sql").open("wb") as file:
        file.truncate((1 << 28) + 1)
    (found,) = points.list_points(store)
    assert found.problem == f'cannot read the manifest "{manifest_path(store / "app.sql")}": it has more than 256 MB'
