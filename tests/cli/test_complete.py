"""What a shell offers for the arguments and options of commands."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.test_start import completing

ROLLBACK, STOPPED, ACTIVE, BACK, FAILED = (f"20260301-12000{n}-0a1b2c3d" for n in range(5))


@pytest.fixture(autouse=True)
def journals(tmp_path: Path) -> None:
    """A state folder with a run of each kind, and two drills."""
    runs = tmp_path / "state" / "runs"
    runs.mkdir(parents=True)
    for run, kind, status in (
        (ROLLBACK, "rollback", "done"),
        (STOPPED, "rollback", "stopped"),
        (ACTIVE, "rollback", ""),
        (BACK, "undo", "done"),
        (FAILED, "restore", "failed"),
    ):
        lines: list[dict[str, object]] = [{"at": "2026-03-01T12:00:00Z", "event": "begun", "kind": kind}]
        if status:
            lines.append({"at": "2026-03-01T12:01:00Z", "event": "ended", "status": status, "report": "x" * 100_000})
        (runs / f"{run}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for name in ("20260101-120000-00000001", "20260201-120000-00000002"):
        (tmp_path / "state" / "drills" / name).mkdir(parents=True)


def offered(environment: dict[str, str], *words: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "lastgood"],
        env={**environment, **completing(*words)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("resume", ""), [ACTIVE, STOPPED]),
        (("abort", ""), [ACTIVE, STOPPED]),
        (("undo", ""), [BACK, ROLLBACK]),
        (("report", ""), [FAILED, BACK, ACTIVE, STOPPED, ROLLBACK]),
        (("drill", "--show", ""), ["20260201-120000-00000002", "20260101-120000-00000001"]),
        (("drill", "--sign", "202601"), ["20260101-120000-00000001"]),
        (("backup", "--format", ""), ["plain", "custom", "directory"]),
        (("rollback", "--fence", "a"), ["at-swap"]),
        (("rollback", "--override", "restore_p"), ["restore_point"]),
        (("check", "--attest", "restore_p"), ["restore_point"]),
        (("help", "ex"), ["explain", "exit-status"]),
    ],
    ids=" ".join,
)
def test_what_fits_is_offered(child_environment: dict[str, str], words: tuple[str, ...], expected: list[str]) -> None:
    assert offered(child_environment, *words) == expected


def test_an_unreadable_journal_offers_nothing(child_environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state" / "runs" / "20260301-120009-0a1b2c3d.jsonl").mkdir()
    assert offered(child_environment, "resume", "") == []
