"""Finding client programs, and asking pg_restore what it can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from lastgood.errors import Refused
from lastgood.postgres import binaries, embedded
from lastgood.process import run

MAJORS = (15, 16, 17, 18)


def bin_of(major: int) -> Path:
    found = embedded.programs(major)
    assert found is not None
    return found


def fake(folder: Path, program: str, version: str) -> Path:
    folder.mkdir(parents=True)
    path = folder / program
    path.write_text(f"#!/bin/sh\necho '{program} (PostgreSQL) {version}'\n")
    path.chmod(0o755)
    return folder


@pytest.mark.parametrize("major", MAJORS)
@pytest.mark.parametrize("program", ["pg_dump", "pg_restore", "psql"])
def test_the_equal_major_is_preferred_to_a_newer_one(program: binaries.ProgramName, major: int) -> None:
    search = [bin_of(m) for m in reversed(MAJORS)]
    found = binaries.find(program, at_least=major, search=search)
    assert (found.major, found.path) == (major, bin_of(major) / program)
    assert run.run([found.path, "--version"]).output.split()[2].decode() == found.version


def test_without_an_equal_one_the_next_newer_is_taken(tmp_path: Path) -> None:
    search = [
        fake(tmp_path / "a", "pg_dump", "19.1"),
        fake(tmp_path / "b", "pg_dump", "18beta2"),
        fake(tmp_path / "c", "pg_dump", "16.9 (Debian 16.9-1)"),
    ]
    assert binaries.find("pg_dump", at_least=17, search=search) == binaries.Program(
        tmp_path / "b" / "pg_dump", 18, "18beta2"
    )


def test_debians_wrapper_is_passed_over(tmp_path: Path) -> None:
    wrapper = fake(tmp_path / "share", "pg_wrapper", "17.1")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "psql").symlink_to(wrapper / "pg_wrapper")
    search = [tmp_path / "bin", fake(tmp_path / "real", "psql", "17.1")]
    assert binaries.find("psql", at_least=17, search=search).path == tmp_path / "real" / "psql"


def test_a_folder_named_by_the_user_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASTGOOD_PG_BIN", str(fake(tmp_path / "own", "pg_dump", "21.0")))
    assert binaries.find("pg_dump", at_least=15).path == tmp_path / "own" / "pg_dump"
    assert binaries.find("pg_restore", at_least=18).major == 18


def test_packaged_folders_newest_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LASTGOOD_PG_BIN", raising=False)
    monkeypatch.setenv("PATH", "")
    for name in ("usr/lib/postgresql/9.6/bin", "usr/lib/postgresql/17/bin", "usr/pgsql-16/bin"):
        (tmp_path / name).mkdir(parents=True)
    mine = [place for place in binaries.places(tmp_path) if place.is_relative_to(tmp_path)]
    assert [str(place.relative_to(tmp_path)) for place in mine] == [
        "usr/lib/postgresql/17/bin",
        "usr/lib/postgresql/9.6/bin",
        "usr/pgsql-16/bin",
    ]


def test_nothing_installed(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        binaries.find("pg_dump", at_least=17, search=[tmp_path])
    assert refused.value.message == "cannot find pg_dump 17 or newer: it is not installed"
    assert refused.value.hint == (
        "Install postgresql-client-17 (Debian, Ubuntu), postgresql17 (Red Hat) or postgresql@17 (Homebrew),"
        " or set LASTGOOD_PG_BIN to the folder that holds pg_dump."
    )


def test_only_an_older_one_installed(tmp_path: Path) -> None:
    search = [fake(tmp_path / "old", "pg_restore", "14.3")]
    with pytest.raises(Refused) as refused:
        binaries.find("pg_restore", at_least=15, search=search)
    path = tmp_path / "old" / "pg_restore"
    assert refused.value.message == f'cannot find pg_restore 15 or newer: "{path}" is version 14.3'
