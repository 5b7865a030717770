"""A drill that fails leaves evidence of that, and counts for nothing; and how two drills are compared."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lastgood.command.drill.evidence import DrillEvidence, DrillPhase
from lastgood.command.drill.history import compared
from lastgood.postgres.embedded import EmbeddedServer
from tests.cli.conftest import Lastgood


def test_a_restore_point_that_does_not_restore(lastgood: Lastgood, server: EmbeddedServer, database: str) -> None:
    """It is whole, by its footer and all that can be seen without restoring it."""
    Path("backups").mkdir()
    dump = Path("backups/nightly.sql")
    subprocess.run([server.bin / "pg_dump", f"--file={dump}", server.url(database)], check=True)
    dump.write_bytes(dump.read_bytes().replace(b"\n2\tBo\t", b"\n1\tBo\t"))
    assert lastgood("points", "verify").status == 0

    answer = lastgood("drill", "--json")

    assert answer.status == 5, answer.err
    evidence = answer.document["evidence"]
    assert evidence["status"] == "failed"
    failure = evidence["failure"]
    assert (failure["phase"], failure["exit_status"]) == ("stand_in", 5)
    assert re.fullmatch(
        r'cannot load line \d+ of "nightly.sql" \(byte \d+, primary key contacts_pkey on public.contacts\): '
        r'could not create unique index "contacts_pkey" \[SQLSTATE 23505\]',
        failure["message"],
    )
    last = evidence["phases"][-1]
    assert (last["name"], last["outcome"]) == ("clean", "done")
    assert [each["outcome"] for each in evidence["phases"] if each["name"] == "stand_in"] == ["failed"]
    shown = lastgood("drill", "--show", evidence["run"])
    assert shown.status == 0, "it is what was written"
    assert shown.out.startswith('The drill FAILED: do not rely on a rollback of "')
    assert lastgood("drill", "--due").status == 3
    assert " failed " in lastgood("drill", "--list").out
    text = (Path("state/drills") / evidence["run"] / "evidence.md").read_text(encoding="utf-8")
    assert "**The drill failed in phase `stand_in`**: " in text


def phases(**seconds: float) -> tuple[DrillPhase, ...]:
    return tuple(
        DrillPhase(name=name.replace("__", "."), title=name, begin=0.0, seconds=each, outcome="done")
        for name, each in seconds.items()
    )


@pytest.mark.parametrize(
    ("now", "size", "slower", "summary"),
    [
        (10.0, 100, False, "10 s, compared with 10 s in the last drill (ratio 1.00)"),
        (20.0, 100, True, "20 s, compared with 10 s in the last drill (ratio 2.00): slower by 10 s"),
        # Twice the bytes may take twice as long.
        (
            20.0,
            200,
            False,
            "20 s, compared with 10 s in the last drill (ratio 2.00); the restore point has 2.00 times the size",
        ),
        (5.0, 100, False, "5.0 s, compared with 10 s in the last drill (ratio 0.50)"),
    ],
)
def test_slower_is_what_the_size_does_not_explain(
    drilled_before: DrillEvidence, now: float, size: int, slower: bool, summary: str
) -> None:
    found = compared(phases(rollback=now, rollback__build=now / 2), size, [drilled_before])
    assert found is not None
    assert (found.slower, found.summary, found.median) == (slower, summary, 10.0)
    assert [(each.name, each.ratio) for each in found.phases] == [("rollback", round(now / 10, 2))]


def test_nothing_to_compare_with(drilled_before: DrillEvidence) -> None:
    assert compared(phases(rollback=1.0), 100, []) is None
    assert compared(phases(stand_in=1.0), 100, [drilled_before]) is None, "it did not get as far"


@pytest.fixture
def drilled_before() -> DrillEvidence:
    """A drill whose rollback took 10 s, of 100 bytes."""
    return DrillEvidence.model_construct(
        run="20260101-000000-00c0ffee",
        ended=datetime(2026, 1, 1, tzinfo=UTC),
        phases=phases(rollback=10.0),
        point=type("Point", (), {"bytes": 100})(),
    )
