"""The restore points in a folder, and the time of each dump."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lastgood import points
from lastgood.errors import BadPoint, Corrupt
from lastgood.points.dump_point import take
from lastgood.points.manifest import manifest_of, manifest_path
from lastgood.points.point import TimeSource
from lastgood.points.store import point_at
from lastgood.postgres.server import Target

Dump = Callable[..., Path]
ALL = pytest.mark.postgres(15, 16, 17, 18)


@pytest.fixture
def berlin() -> Iterator[None]:
    """This machine is in Berlin."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def test_nothing_and_no_folder(store: Path) -> None:
    assert points.list_points(store) == []
    assert points.list_points(store / "absent") == []
    (store / "file").write_text("x")
    with pytest.raises(BadPoint) as error:
        points.list_points(store / "file")
    assert str(error.value) == f'cannot look for restore points in "{store}/file": not a directory'


@ALL
def test_dumps_are_recognized_by_content(crm: Target, store: Path, dump: Dump) -> None:
    plain = dump(crm, store / "plain.backup")
    dump(crm, store / "custom.sql", "-Fc")
    dump(crm, store / "folder", "-Fd")
    dump(crm, store / "tar.dat", "-Ft")
    (store / "small.bin").write_bytes(gzip.compress(plain.read_bytes()))
    dump(crm, store / "inserts.txt", "--inserts")
    data = dump(crm, store / "data.sql", "--data-only").read_text()
    bare = "\n".join(line for line in data.splitlines() if not line.startswith("--"))
    (store / "data.sql").write_text(bare)
    known = take(crm, store)
    (store / "README.md").write_text("# Backups\n\nMade by a script.\n")
    (store / "backup.sh").write_text("#!/bin/sh\npg_dump app > backup.sql\n")
    (store / "empty.sql").write_bytes(b"")
    (store / "picture.sql").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (store / ".app.sql.partial").write_bytes(plain.read_bytes())
    (store / "app.sql.partial").write_bytes(plain.read_bytes())
    (store / "other folder").mkdir()
    (store / "lost.sql.lastgood.json").write_text("{}")
    damaged = {point.path.name: point.problem for point in points.list_points(store) if point.problem}
    assert damaged == {
        "empty.sql": f'cannot use "{store}/empty.sql": it is empty',
        "picture.sql": f'cannot use "{store}/picture.sql": it is a picture, not a dump',
    }
    assert {point.path.name for point in points.list_points(store)} - damaged.keys() == {
        "plain.backup",
        "custom.sql",
        "folder",
        "tar.dat",
        "small.bin",
        "inserts.txt",
        "data.sql",
        known.path.name,
    }
    assert [point.path for point in points.list_points(store) if point.manifest is not None] == [known.path]


@pytest.mark.parametrize(
    ("name", "moment", "source"),
    [
        ("cloud_backup_20251104_143000.sql", datetime(2025, 11, 4, 13, 30, tzinfo=UTC), "name"),
        ("local_backup_20250704_143000.sql", datetime(2025, 7, 4, 12, 30, tzinfo=UTC), "name"),
        ("emergency_2025-11-04T14-30-00.sql", datetime(2025, 11, 4, 13, 30, tzinfo=UTC), "name"),
        ("app-2025-11-04 14:30:00.dump", datetime(2025, 11, 4, 13, 30, tzinfo=UTC), "name"),
        ("app_20251104T143000Z.sql", datetime(2025, 11, 4, 14, 30, tzinfo=UTC), "name"),
        ("app_20251399_143000.sql", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC), "file time"),
        ("app_120251104_1430001.sql", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC), "file time"),
        ("backup.sql", datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC), "file time"),
    ],
)
def test_the_time_of_a_foreign_dump(
    berlin: None, crm: Target, store: Path, dump: Dump, name: str, moment: datetime, source: TimeSource
) -> None:
    path = dump(crm, store / name)
    assert b"Dumped from database version" in path.read_bytes()
    written = datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC).timestamp()
    os.utime(path, (written, written))
    point = point_at(path)
    assert point is not None
    assert (point.made_at, point.time_source, point.manifest) == (moment, source, None)


@ALL
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Tokyo"])
def test_the_header_of_a_verbose_dump_decides(berlin: None, crm: Target, store: Path, dump: Dump, zone: str) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    path = dump(crm, store / "app_20200101_000000.sql", "-v", zone=zone)
    after = datetime.now(UTC)
    point = point_at(path)
    assert point is not None
    if zone == "Asia/Tokyo":
        # "JST" is ambiguous: the name is better evidence than a guess.
        assert (point.made_at, point.time_source) == (datetime(2019, 12, 31, 23, tzinfo=UTC), "name")
    else:
        assert before <= point.made_at <= after
        assert point.time_source == "header"


@ALL
@pytest.mark.parametrize(("form", "compressed"), [("-Fc", False), ("-Ft", False), ("-Fd", False), ("-Fc", True)])
def test_an_archives_header_decides(
    berlin: None, crm: Target, store: Path, dump: Dump, form: str, compressed: bool
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    path = dump(crm, store / "app_20200101_000000", form, zone="Europe/Berlin")
    after = datetime.now(UTC)
    if compressed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    point = point_at(path)
    assert point is not None
    if compressed:
        assert (point.made_at, point.time_source) == (datetime(2019, 12, 31, 23, tzinfo=UTC), "name")
    else:
        assert before <= point.made_at <= after
        assert point.time_source == "archive"


def test_a_point_of_ours_that_is_damaged_is_seen(crm: Target, store: Path) -> None:
    path = take(crm, store).path
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    (point,) = points.list_points(store)
    assert point.problem == f'cannot use "{path}": it has {len(whole) - 1} bytes, but had {len(whole)} when it was made'
    path.write_bytes(b"")
    (point,) = points.list_points(store)
    assert (point.size, point.problem) == (0, f'cannot use "{path}": it is empty')
    path.write_bytes(whole)
    text = manifest_path(path).read_text()
    manifest_path(path).write_text(text[:100])
    (point,) = points.list_points(store)
    assert point.manifest is None
    assert point.problem.startswith(f'cannot read the manifest "{manifest_path(path)}": invalid json: eof')
    verdict = points.verify(point)
    assert (verdict.state, verdict.message) == ("differs", point.problem)
    assert verdict.hint == (
        "The dump itself may be whole. Move the manifest away to use the dump without it. Or choose another restore "
        "point: lastgood points"
    )
    manifest_path(path).write_text(text.replace('"purpose"', '"unknown"'))
    with pytest.raises(Corrupt) as error:
        manifest_of(path)
    assert str(error.value) == (
        f'cannot read the manifest "{manifest_path(path)}": unknown: extra inputs are not permitted'
    )
    assert error.value.hint == "The dump itself may be whole. Move the manifest away to use the dump without it."
    manifest_path(path).unlink()
    (point,) = points.list_points(store)
    assert (point.problem, point.time_source) == ("", "name")


def test_a_dump_that_is_damaged_at_its_head_is_seen(crm: Target, store: Path, dump: Dump) -> None:
    whole = dump(crm, store / "app.sql").read_bytes()
    (store / "app.sql").write_bytes(os.urandom(3000).hex().encode() + b"\n" + whole[6001:])
    (store / "migration.sql").write_text("UPDATE t SET a = 1;\n" * 1000)
    (store / "zeros.sql").write_bytes(bytes(5000) + whole[5000:])
    (store / "cut.sql.gz").write_bytes(gzip.compress(whole)[:5])
    assert {point.path.name: point.problem for point in points.list_points(store)} == {
        "app.sql": f'cannot use "{store}/app.sql": it does not begin like a dump',
        "zeros.sql": f'cannot use "{store}/zeros.sql": it is nothing but NUL bytes, not a dump',
        "cut.sql.gz": f'cannot read "{store}/cut.sql.gz": unexpected end of gzip data after 5 bytes',
    }
    for point in points.list_points(store):
        assert points.verify(point).state in ("corrupt", "incomplete")


def test_a_set_of_files_is_one_point(crm: Target, store: Path, dump: Dump) -> None:
    folder = store / "supabase_20251104_143000"
    folder.mkdir()
    for name, option in (("schema.sql", "--schema-only"), ("data.sql", "--data-only")):
        dump(crm, folder / name, option)
    (folder / "notes.txt").write_text("made by hand")
    (point,) = points.list_points(store)
    assert (point.path, point.problem, point.time_source) == (folder, "", "name")
    assert points.verify(point).valid
    ((inside),) = points.list_points(folder)
    assert (inside.path, inside.size) == (folder, point.size)
    facts = points.read_whole(point).facts
    dump(crm, store / "whole.sql")
    assert facts.tables == points.read_whole(points.find(store, "whole.sql")).facts.tables
    gathered = points.find_by_names(folder, ["data.sql", "schema.sql"])
    assert (gathered.path.name, gathered.size) == ("data.sql + schema.sql", point.size)
    assert points.read_whole(gathered).facts.tables == facts.tables


def test_newest_first(crm: Target, store: Path, dump: Dump) -> None:
    for day in ("02", "03", "01"):
        dump(crm, store / f"app_202511{day}_000000.sql")
    assert [point.path.name[8:12] for point in points.list_points(store)] == ["1103", "1102", "1101"]


def test_a_name_that_leaves_no_room_for_a_manifest_hides_nothing(crm: Target, store: Path, dump: Dump) -> None:
    dump(crm, store / "app.sql")
    (store / f"{'x' * 245}.sql").write_bytes((store / "app.sql").read_bytes())
    assert {point.problem for point in points.list_points(store)} == {""}
    assert len(points.list_points(store)) == 2
