"""Our folders are private; existing ones are not changed."""

from __future__ import annotations

import os
from pathlib import Path

from lastgood.journal import Journal
from lastgood.process import durable


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_every_missing_folder_is_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o755)
        durable.private_folder(shared / "a" / "b")
        journal = Journal.create(shared / "state", "20260101-000000-abcd")
    finally:
        os.umask(before)
    assert [mode(each) for each in (shared, shared / "a", shared / "a" / "b")] == [0o755, 0o700, 0o700]
    assert [mode(each) for each in (shared / "state", shared / "state" / "runs")] == [0o700, 0o700]
    assert mode(journal.path) == 0o600
