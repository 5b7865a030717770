"""The record of a run: durable, readable after a crash in the middle of a write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lastgood.command.report.post_mortems import incidents_to_review
from lastgood.config.tables import RecordSettings
from lastgood.errors import Refused, UsageError
from lastgood.journal import Journal, parse_entry
from lastgood.journal.past_runs import past_runs

RUN = "20261122-031500-9f3c1a70"


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    journal.doing("build")
    journal.done("build", oid=5)
    found = Journal.find(tmp_path, RUN)
    assert found is not None
    assert [(e["event"], e["step"]) for e in found.replay()] == [("doing", "build"), ("done", "build")]
    assert found.results() == {"build": {"oid": 5}}


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    journal.done("fence")
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2026-11-22T03:15:00", "event": "do')
    assert [e["step"] for e in journal.replay()] == ["fence"]


def test_what_was_undone_is_no_result(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    journal.done("build", oid=5)
    journal.write("undone", step="build")
    assert journal.results() == {}


def test_a_run_is_begun_once(tmp_path: Path) -> None:
    Journal.create(tmp_path, RUN)
    with pytest.raises(Refused) as raised:
        Journal.create(tmp_path, RUN)
    assert str(raised.value) == f'cannot create the journal "{tmp_path}/runs/{RUN}.jsonl": file exists'


def test_no_record_no_run(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(Refused) as raised:
        Journal.create(tmp_path, RUN)
    assert str(raised.value) == f'cannot create the journal "{tmp_path}/runs/{RUN}.jsonl": not a directory'
    assert raised.value.exit_status == 3


def test_journals_are_for_their_owner_only(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    assert journal.path.stat().st_mode & 0o777 == 0o600
    assert journal.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["", "../../etc/passwd", ".hidden"])
def test_a_run_name_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as raised:
        Journal.find(tmp_path, name)
    assert str(raised.value) == f'cannot look up run "{name}": not the name of a run'


def test_all_lists_the_newest_last(tmp_path: Path) -> None:
    for run in ("20261122-031500-9f3c1a70", "20251104-143000-00000000"):
        Journal.create(tmp_path, run)
    assert [j.run for j in Journal.all(tmp_path)] == ["20251104-143000-00000000", "20261122-031500-9f3c1a70"]


def test_of_the_same_second_the_one_that_began_last_is_the_newest(tmp_path: Path) -> None:
    names = ["20251104-143000-ffff", "20251104-143000-0000", "20251104-143000-7777", "20251104-143001-0000"]
    for number, name in enumerate(names):
        (tmp_path / "runs").mkdir(exist_ok=True)
        entry = f'{{"at": "2025-11-04T14:30:00.{number}00+00:00", "event": "begun", "kind": "undo"}}\n'
        (tmp_path / "runs" / f"{name}.jsonl").write_text(entry)
    assert [journal.run for journal in Journal.all(tmp_path)] == names
    assert [journal.run for journal in Journal.newest(tmp_path, "undo")] == names[::-1]


def test_the_newest_of_a_kind_are_found_by_their_first_words(tmp_path: Path) -> None:
    for number, kind in enumerate(("rollback", "validate", "rollback", "undo")):
        Journal.create(tmp_path, f"20261122-03150{number}-00000000").write("begun", kind=kind, live="crm")
    Journal.create(tmp_path, "20261122-031504-00000000")
    assert [j.kind for j in Journal.newest(tmp_path)] == ["", "undo", "rollback", "validate", "rollback"]
    assert [j.run for j in Journal.newest(tmp_path, "rollback")] == [
        "20261122-031502-00000000",
        "20261122-031500-00000000",
    ]


def test_what_is_written_after_a_torn_line_is_not_lost_with_it(tmp_path: Path) -> None:
    """A crash or a full disk truncates a line; a resumed run writes into the same journal."""
    journal = Journal.create(tmp_path, RUN)
    journal.done("fence", baseline=7)
    with journal.path.open("ab") as file:
        file.write(b'{"at": "2026-11-22T03:15')
    journal.done("build")
    assert [entry.get("step") for entry in journal.replay()] == ["fence", "build"]
    assert journal.results() == {"fence": {"baseline": 7}, "build": {}}


def test_a_damaged_line_costs_that_line_only(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path, RUN)
    with journal.path.open("ab") as file:
        file.write(b"\0\0\0\n[]\n{}\n\xff\xfe\n")
    journal.doing("build")
    assert [entry["event"] for entry in journal.replay()] == ["doing"]


@pytest.mark.parametrize(
    "line",
    [
        '{"at": "2026-11-23T10:00:00", "event": "begun"}',
        '{"at": "2026-13-01T10:00:00+00:00", "event": "begun"}',
        '{"at": 5, "event": "begun"}',
        '{"at": "2026-11-23T10:00:00+00:00", "event": ["begun"]}',
        '{"at": "2026-11-23T10:00:00+00:00", "event": "done", "step": 7}',
        '["event", "at"]',
        "[" * 100_000,
    ],
)
def test_what_was_never_written_here_is_left_out(line: str) -> None:
    assert parse_entry(line.encode()) is None


@pytest.mark.parametrize("last", ["9999-12-31T23:59:59+00:00", "2026-11-23T10:00:00+00:00"])
@pytest.mark.parametrize("plan", [[], "x", {"point": []}, {"point": {"path": 1, "bytes": "x"}, "live": "crm"}])
def test_a_damaged_journal_does_not_affect_the_search_through_all(tmp_path: Path, plan: object, last: str) -> None:
    journal = Journal.create(tmp_path, "20261123-100000-0a1b2c3d")
    for entry in (
        {
            "at": "2026-11-23T10:00:00+00:00",
            "event": "begun",
            "kind": "rollback",
            "by": "x",
            "live": "crm",
            "plan": plan,
        },
        {"at": "2026-11-23T10:00:00+00:00", "event": "done", "step": "emergency", "result": "x"},
        {"at": last, "event": "ended", "status": "done", "report": []},
    ):
        with journal.path.open("a") as file:
            file.write(json.dumps(entry) + "\n")
    assert past_runs(tmp_path, "crm") == ()
    assert list(incidents_to_review(tmp_path, "crm", None, RecordSettings())) == []
