"""Row 15: the backup is corrupt.

``lastgood recover`` reports the error and its place, falls back to the previous valid one, and offers to salvage the
readable rows.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from demo import naive
from lastgood.cli import main
from lastgood.command.recover import candidates
from lastgood.postgres.embedded import EmbeddedServer
from tests.mission.emergencies import rows, staged
from tests.traps.stage import Stage


@pytest.fixture
def stage(
    server: EmbeddedServer, new_database: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Stage:
    """One valid backup; five newer ones, each damaged in its own way; and the newest of them was played back."""
    stage = staged(server, new_database, tmp_path, monkeypatch)
    whole = stage.dump.read_bytes()
    packed = bytearray(gzip.compress(whole))
    packed[len(packed) // 2] ^= 0xFF
    contacts = whole.index(b"\nCOPY public.contacts ")
    in_a_row = whole.index(b"\n", contacts + 1) + 40
    damaged = {
        "cloud_backup_20260113_093000.sql": b"",
        "cloud_backup_20260114_093000.sql": b"<!DOCTYPE html><html><body>Sign in</body></html>\n",
        "cloud_backup_20260115_093000.sql.gz": bytes(packed),
        "cloud_backup_20260116_093000.sql": whole[: len(whole) * 7 // 10],
        "cloud_backup_20260117_093000.sql": whole[:in_a_row],
    }
    for name, content in damaged.items():
        (stage.backups / name).write_bytes(content)
    naive.restore(server.bin, stage.url, stage.backups / max(damaged))
    assert rows(stage, "public", "contacts") == 0
    return stage


def test_it_names_each_damage_and_falls_back(stage: Stage) -> None:
    answer = stage.lastgood("recover", "--dry-run")

    assert answer.status == 0, answer.printed
    diagnosis = answer.document["diagnosis"]
    assert (diagnosis["emergency"], diagnosis["title"], diagnosis["damaged"]) == (
        "corrupt_backup",
        "the backup is corrupt",
        True,
    )
    problems = {each["name"]: (each["number"], each["verdict"], each["problem"]) for each in diagnosis["timeline"]}
    whole = stage.dump.read_bytes()
    begins = whole.index(b"COPY public.contacts ")
    line = whole.count(b"\n", 0, begins) + 1
    cut = "cannot read the dump: it ends inside the rows of COPY public.contacts, which began at line "
    assert problems["cloud_backup_20260117_093000.sql"] == (None, "incomplete", f"{cut}{line} (byte {begins})")
    assert problems["cloud_backup_20260116_093000.sql"] == (None, "incomplete", f"{cut}{line} (byte {begins})")
    assert problems["cloud_backup_20260115_093000.sql.gz"][:2] == (None, "corrupt")
    html = stage.backups / "cloud_backup_20260114_093000.sql"
    assert problems[html.name] == (None, "corrupt", f'cannot use "{html}": it is a web page, not a dump')
    empty = stage.backups / "cloud_backup_20260113_093000.sql"
    assert problems[empty.name] == (None, "incomplete", f'cannot use "{empty}": it is empty')
    assert problems[stage.dump.name] == (1, "valid", "")

    first, *others = diagnosis["proposals"]
    assert (first["kind"], first["name"], first["automatic"]) == ("rollback", str(stage.dump), True)
    assert "5 days older than" in first["detail"]
    newest = stage.backups / "cloud_backup_20260117_093000.sql"
    salvage = [each for each in others if each["title"] == f"restore what can be read of {newest.name}"]
    assert [each["commands"] for each in salvage] == [
        [f"lastgood restore {newest} --into {stage.database}_readable --skip-damaged"]
    ]


def test_it_ends_in_a_proved_database(stage: Stage) -> None:
    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 0, answer.printed
    assert answer.document["report"]["point"]["path"] == str(stage.dump)
    assert all(table["equal"] for table in answer.document["report"]["tables"])
    assert stage.now().content == stage.before.content
    assert answer.document["diagnosis"]["statement"].startswith(
        "Writes between 2026-01-12 09:30:00 UTC and 2026-01-17 09:30:00 UTC are in no valid restore point. Those that "
        "the live database still has remain in the kept database and in the emergency backup."
    )


def test_what_can_be_read_of_it_is_restored_by_the_command_that_it_shows(stage: Stage) -> None:
    stage.dump.unlink()

    answer = stage.lastgood("recover", "--yes")

    assert answer.status == 3
    assert answer.document["error"]["message"] == (
        "cannot continue automatically: restore what can be read of cloud_backup_20260117_093000.sql"
    )
    diagnosis = stage.lastgood("recover", "--dry-run").document["diagnosis"]
    assert diagnosis["emergency"] == "corrupt_backup"
    assert diagnosis["statement"].startswith(f'Not one of 5 restore points of "{stage.database}" is valid. ')
    _, *arguments = diagnosis["proposals"][0]["commands"][0].split()
    restored = stage.lastgood(*arguments)
    assert restored.status == 0, restored.printed
    tables = {table["name"]: table for table in restored.document["tables"]}
    assert tables["contact_tags"]["state"] == "whole"
    assert tables["contacts"]["state"] == "missing", "it was cut in the first of its rows"


def test_damage_that_only_a_whole_reading_finds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The quick look has no time to read any, and sees the end of one that is compressed only by reading it; rollback
    does, and recover continues with the next one."""
    for name, value in stage.lastgood.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(candidates, "READING_SECONDS", -1.0)

    status = main(["recover", "--yes"])

    output = capsys.readouterr()
    assert status == 0, output.err
    assert "cloud_backup_20260115_093000.sql.gz failed verification" in output.err
    assert f'"{stage.database}" was rolled back to {stage.dump.name}' in output.out
    assert stage.now().content == stage.before.content
