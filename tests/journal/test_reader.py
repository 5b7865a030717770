"""The one place that knows what stands where in a journal."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from lastgood.journal import Journal
from lastgood.journal.reader import Entry, entries, read_run

RUN = "20261122-031500-9f3c1a70"
AT = "2026-11-22T03:15:00+00:00"


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal.create(tmp_path, RUN)


def write(journal: Journal, *lines: dict[str, Any]) -> None:
    with journal.path.open("a") as file:
        file.writelines(json.dumps({"at": AT, **line}) + "\n" for line in lines)


def test_what_the_writer_writes_is_read_with_its_types(journal: Journal) -> None:
    plan = {"live": "crm", "kept": "crm_old", "point": {"path": "good.sql"}}
    journal.write("begun", kind="rollback", by="ann", host="db1", skew=-0.5, folder="/srv", live="crm", plan=plan)
    journal.doing("build")
    journal.done("build", oid=7, detail="10 rows")
    journal.write("failed", reason="disk full", error="OSError")
    journal.write("ended", status="failed", error={"message": "cannot continue: disk full"})

    found = read_run(journal)

    assert found is not None
    assert [each.event for each in found.entries] == ["begun", "doing", "done", "failed", "ended"]
    assert (found.kind, found.live, found.point, found.folder) == ("rollback", "crm", "good.sql", Path("/srv"))
    assert (found.first.by, found.first.host, found.first.skew) == ("ann", "db1", -0.5)
    assert (found.plan, found.result("build")) == (plan, {"oid": 7, "detail": "10 rows"})
    assert found.ended is not None
    assert (found.ended.status, found.ended.error, found.ended.report) == (
        "failed",
        {"message": "cannot continue: disk full"},
        {},
    )
    assert [each.reason for each in found.of("failed")] == ["disk full"]
    assert found.last("doing", "done") is found.entries[2]


def test_an_empty_journal_is_none(journal: Journal) -> None:
    journal.path.write_bytes(b'{"at": "2026-11-22T03:15')
    assert read_run(journal) is None


def test_what_was_done_on_another_machine_begins_with_who_went_on(journal: Journal) -> None:
    write(journal, {"event": "resumed", "kind": "finish", "live": "crm"}, {"event": "ended", "status": "done"})
    found = read_run(journal)
    assert found is not None and (found.kind, found.live, found.plan, found.point) == ("finish", "crm", {}, "")


@pytest.mark.parametrize(
    ("lines", "point"),
    [
        ([{"event": "ended", "past": {"live": "crm", "point": "a.sql"}}], "a.sql"),
        ([{"event": "begun", "plan": {"point": {"name": "b"}}}], "b"),
        ([{"event": "begun", "kind": "deploy"}, {"event": "point", "path": "c.sql"}], "c.sql"),
        ([{"event": e, "plan": {"point": {"path": e}}} for e in ("begun", "resumed")], "resumed"),
    ],
)
def test_the_point_of_every_kind_of_run(journal: Journal, lines: list[dict[str, Any]], point: str) -> None:
    write(journal, *lines)
    found = read_run(journal)
    assert found is not None and found.point == point


def test_only_the_events_that_are_asked_for_are_read(journal: Journal) -> None:
    write(
        journal,
        {"event": "begun", "kind": "drill"},
        {"event": "note", "text": 'he wrote: "event": "ended"'},
        {"event": "ended", "status": "done"},
    )
    assert [each.event for each in entries(journal, "begun", "ended")] == ["begun", "ended"]
    assert len(list(entries(journal))) == 3


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda entry: entry.status, '"status" is not text'),
        (lambda entry: entry.skew, '"skew" is not a number'),
        (lambda entry: entry.plan, '"plan" is not an object'),
    ],
)
def test_what_is_of_another_kind_than_it_should_be_makes_no_sense(
    read: Callable[[Entry], object], message: str
) -> None:
    entry = Entry(datetime.fromisoformat(AT), "ended", {"status": [], "skew": "x", "plan": []})
    with pytest.raises(TypeError, match=message):
        read(entry)


def test_what_an_entry_lacks_is_empty() -> None:
    entry = Entry(datetime.fromisoformat(AT), "begun", {"plan": None})
    assert (entry.by, entry.skew, entry.plan, entry.result) == ("", None, {}, {})
