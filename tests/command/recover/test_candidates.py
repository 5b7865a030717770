"""Which restore points are read, how far, and where else dumps are found."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from lastgood.command.recover import candidates
from lastgood.command.recover.evidence import Goal
from lastgood.points import PointVerdict

DUMP = """--
-- PostgreSQL database dump
--

SET client_encoding = 'UTF8';
CREATE TABLE public.t (id integer);
CREATE TABLE public.schema_migrations (version text);
COPY public.t (id) FROM stdin;
1
2
\\.
COPY public.schema_migrations (version) FROM stdin;
{version}
\\.
--
-- PostgreSQL database dump complete
--

"""


def dump(folder: Path, day: int, version: str = "20260101") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"app_202601{day:02}_120000.sql"
    path.write_text(DUMP.format(version=version))
    return path


def test_they_are_read_newest_first_and_known_verdicts_are_taken_over(tmp_path: Path) -> None:
    old, new = dump(tmp_path, 1), dump(tmp_path, 2)
    broken = dump(tmp_path, 3)
    broken.write_text(broken.read_text().partition("--\n-- PostgreSQL database dump complete")[0])
    known = {new: PointVerdict("corrupt", "said before")}
    found = candidates.find(tmp_path, "app", Goal(), known, []).candidates
    assert [(each.point.path, each.usable, each.defect) for each in found] == [
        (broken, False, 'cannot use the dump: it ends without the line "-- PostgreSQL database dump complete"'),
        (new, False, "said before"),
        (old, True, ""),
    ]
    assert found[2].facts is not None and found[2].facts.rows == 3
    assert found[2].migration == "20260101"


def test_without_time_nothing_is_read_or_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "READING_SECONDS", -1.0)
    dump(tmp_path, 1)
    (found,) = candidates.find(tmp_path, "app", Goal(), {}, []).candidates
    assert (found.verdict, found.facts, found.usable) == (None, None, True)
    (thorough,) = candidates.find(tmp_path, "app", Goal(thorough=True), {}, []).candidates
    assert thorough.verdict is not None and thorough.verdict.valid


def test_for_a_migration_they_are_read_until_one_lacks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(candidates, "READING_SECONDS", -1.0)
    monkeypatch.setattr(candidates, "WHOLLY", 0)
    dump(tmp_path, 1)
    dump(tmp_path, 2)
    dump(tmp_path, 3, "20260303")
    found = candidates.find(tmp_path, "app", Goal(before_migration="20260303"), {}, []).candidates
    assert [each.migration for each in found] == ["20260303", "20260101", None]
    assert found[2].verdict is None


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    found = candidates.find(tmp_path / "gone", "app", Goal(), {}, [])
    assert (found.candidates, found.problem) == ((), f'the folder "{tmp_path / "gone"}" does not exist')


def test_dumps_elsewhere(tmp_path: Path) -> None:
    store, home, here = tmp_path / "store", tmp_path / "home", tmp_path / "here"
    in_store = dump(store, 9)
    at_home = dump(home / "backups", 5)
    deeper = dump(here / "backups" / "migrations", 6)
    configured = dump(tmp_path / "disk", 7)
    packed = here / "backups" / "last.gz"
    packed.write_bytes(gzip.compress(DUMP.format(version="1").encode()))
    (home / "notes.txt").write_text("SELECT 1;\n")
    (home / "damaged.sql").write_text("<html>")
    dump(home / "deep" / "down", 8)

    places = candidates.usual_places(store, [tmp_path / "disk", tmp_path / "none"], home, here)
    unseen: list[str] = []
    found = candidates.elsewhere(places, store, here, "app", unseen)

    inside = [each.point.path for each in found if tmp_path in each.point.path.parents]
    assert set(inside) == {configured, deeper, at_home, packed}
    assert [path for path in inside if path != packed] == [configured, deeper, at_home], "newest first"
    assert in_store not in inside
    assert tmp_path / "none" not in places
    assert unseen == []
