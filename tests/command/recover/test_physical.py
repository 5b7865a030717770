"""Physical backups and archived WAL are recognised by their marker files."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lastgood.command.recover import physical
from lastgood.command.recover.evidence import Physical


def made(root: Path, *files: str, content: str = "") -> None:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (1_770_000_000, 1_770_000_000))


def only(root: Path) -> Physical:
    unseen: list[str] = []
    (found,) = physical.find([root], unseen)
    assert unseen == []
    return found


def test_a_base_backup(tmp_path: Path) -> None:
    made(tmp_path / "x", "PG_VERSION", content="17\n")
    made(tmp_path / "x", "global/pg_control", "backup_manifest")
    made(tmp_path / "x", "backup_label", content="START WAL LOCATION: 0/2\nSTART TIME: 2026-01-11 03:00:00 UTC\n")
    found = only(tmp_path)
    assert (found.kind, found.path) == ("a base backup", tmp_path / "x")
    assert found.detail == "PostgreSQL 17, with a manifest: pg_verifybackup checks it"
    assert found.first == datetime(2026, 1, 11, 3, tzinfo=UTC)


def test_a_running_servers_data_is_no_backup(tmp_path: Path) -> None:
    made(tmp_path, "PG_VERSION", "global/pg_control", "postmaster.pid")
    assert physical.find([tmp_path], []) == ()


def test_a_base_backup_in_tar_files(tmp_path: Path) -> None:
    made(tmp_path, "base.tar.gz", "pg_wal.tar.gz", "backup_manifest")
    assert only(tmp_path).kind == "a base backup in tar files"


def test_a_pgbackrest_repository(tmp_path: Path) -> None:
    made(tmp_path, "archive/main/archive.info", "backup/main/backup.info")
    made(tmp_path, "backup/main/20260110-020000F/x", "backup/main/20260110-020000F_20260111-020000I/x")
    found = only(tmp_path)
    assert (found.kind, found.detail) == (
        "a pgBackRest repository",
        "stanza main; 2 backups, the newest 20260110-020000F_20260111-020000I",
    )
    assert found.first is not None and found.last is not None and (found.last - found.first).days == 1
    assert found.next_step.startswith(
        "pgbackrest --stanza=main --type=time --target=TIME --pg1-path=EMPTY_FOLDER restore"
    )


def test_a_barman_server(tmp_path: Path) -> None:
    made(tmp_path / "crm", "base/20260110T020000/backup.info", "wals/xlog.db")
    found = only(tmp_path)
    assert (found.kind, found.detail) == ("a Barman server", "1 backups, the newest 20260110T020000")


def test_a_wal_g_store(tmp_path: Path) -> None:
    name = "basebackups_005/base_000000010000000000000002_backup_stop_sentinel.json"
    made(tmp_path, name, content='{"FinishTime": "2026-01-10T02:00:00Z"}')
    found = only(tmp_path)
    assert (found.kind, found.detail, found.last) == (
        "a WAL-G store",
        "1 backups",
        datetime(2026, 1, 10, 2, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("names", "detail"),
    [
        (
            ("0000000100000000000000FE", "0000000100000000000000FF", "000000010000000100000000.gz"),
            "3 segments, timeline 1",
        ),
        (("000000010000000000000001", "000000020000000000000001.partial"), "2 segments, timeline 1, 2"),
    ],
)
def test_archived_wal(tmp_path: Path, names: tuple[str, ...], detail: str) -> None:
    made(tmp_path, *names)
    assert only(tmp_path).detail == f"{detail}, without a gap"


def test_a_gap(tmp_path: Path) -> None:
    made(tmp_path, "000000010000000000000001", "000000010000000000000003")
    assert only(tmp_path).detail == "2 segments, timeline 1; 1 gap; WAL after a gap cannot be replayed"


def test_other_folders_are_nothing(tmp_path: Path) -> None:
    made(tmp_path, "a/b/c", "PG_VERSION", "backup/notes", "archive/mail")
    assert physical.find([tmp_path, tmp_path / "gone"], []) == ()
