"""Reports from journals of any version, of several operators, and with any content."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from lastgood.command.report import parts, post_mortem, report
from lastgood.command.report import show as shown
from lastgood.command.report.report import Inquiry, RunRecord
from lastgood.config.tables import RecordSettings, Tables
from lastgood.errors import Refused, UsageError
from lastgood.journal import incidents
from tests.command.report.journals import ANN, BEGAN, PLAN, RUN, journal, switched


def record_of_run(state: Path, run: str | None = RUN) -> RunRecord:
    return report.record_of(Inquiry(state, state / "backups", Tables(), None), run)


def test_times_are_the_servers_and_each_hand_has_a_clock_of_its_own(tmp_path: Path) -> None:
    journal(
        tmp_path,
        {"event": "begun", "kind": "rollback", **ANN, "live": "crm", "skew": 60.0, "plan": PLAN},
        {"event": "caution", "text": "look"},
        {"event": "resumed", "kind": "rollback", **ANN, "by": "root", "sudo_user": "bo", "host": "db2", "skew": -2.0},
        {"event": "note", "text": "well"},
    )
    found = record_of_run(tmp_path)
    assert (found.clock, found.skew) == ("server", 60.0)
    assert [(each.at - BEGAN).total_seconds() for each in found.timeline] == [60.0, 61.0, 0.0, 1.0]
    assert [(each.action, each.person) for each in found.people] == [
        ("began", "ann on db1 from 203.0.113.7"),
        ("resumed", "bo (as root) on db2 from 203.0.113.7"),
    ]
    assert parts.clock(found) == "the server's, 1 min ahead of the machine's"


def test_a_journal_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """As 0.1.0 of November 2026 wrote them: without a name, without stages, without an end that failed."""
    journal(
        tmp_path,
        {"event": "begun", "kind": "rollback", "plan": PLAN},
        {"event": "doing", "step": "build"},
        {"event": "failed", "reason": "cannot build: disk full", "error": "Failed"},
        {"event": "undone", "step": "build"},
    )
    found = record_of_run(tmp_path)
    assert (found.outcome, found.clock, found.people[0].by) == ("reverted", "machine", "")
    assert [(each.kind, each.text) for each in found.timeline] == [
        ("who", "began"),
        ("stage", "build the restored database next to the live one"),
        ("failed", "cannot build: disk full"),
        ("undone", "build the restored database next to the live one"),
    ]
    assert found.reason == "cannot build: disk full"
    assert found.remarks == (
        "unknown operator: an earlier version of lastgood or another machine began the run",
        "unknown clock skew: times are those of the machine that executed the run",
    )
    (line,) = report.runs(tmp_path).runs
    assert (line.run, line.kind, line.by, line.live, line.outcome, line.seconds) == (
        RUN,
        "rollback",
        "",
        "crm",
        "reverted",
        3.0,
    )
    # Runs of versions before post-mortems require none.
    old = switched()
    for name in ANN:
        del old[0][name]
    journal(tmp_path, *old)
    assert record_of_run(tmp_path).outcome == "done" and record_of_run(tmp_path).after is None


def test_phases_are_read_from_the_entries(tmp_path: Path) -> None:
    journal(tmp_path, *switched())
    found = record_of_run(tmp_path)
    assert [(each.name, (each.begun - BEGAN).total_seconds(), each.outcome) for each in found.phases] == [
        ("build", 1.0, "done"),
        ("swap", 5.0, "done"),
    ]
    assert found.figures == {"total": 7.0, "read_outage": 0.008}
    assert found.point == "/srv/backups/crm.sql"
    assert [(each.table, each.written_since) for each in found.loss] == [("public.contacts", 2)]
    assert [each.item for each in found.overrides] == ["room"]
    assert shown.page_of(found).count("<rect") == 2


@pytest.mark.parametrize(
    ("entries", "outcome", "words"),
    [
        ([{"event": "begun", "kind": "deploy", "live": "crm"},
          {"event": "ended", "status": "undone", "report": {"status": "rolled back", "undo_command": "x"}}],
         "undone", "failed; the database was rolled back"),
        ([{"event": "begun", "kind": "deploy", "live": "crm"}, {"event": "point", "path": "/p.sql"},
          {"event": "ended", "status": "failed", "error": {"message": "no", "exit_status": 5}}],
         "reverted", "failed; the database is as it was"),
        ([{"event": "begun", "kind": "deploy", "live": "crm"}, {"event": "point", "path": "/p.sql"}],
         "stopped", "unfinished, or still active"),
        ([{"event": "begun", "kind": "drill", "live": "crm"}, {"event": "ended", "status": "failed", "why": "no room"}],
         "failed", "failed"),
        ([{"event": "begun", "kind": "drill", "live": "crm"}, {"event": "ended", "status": "done"}], "done", "done"),
        ([{"event": "ended", "kind": "restore", "status": "done",
           "past": {"live": "crm", "seconds": 5.0, "bytes": 1, "point": "x"}}], "done", "done"),
        ([{"event": "begun", "kind": "undo", **ANN, "plan": {"live": "crm", "undoes": RUN, "kept": "k"}},
          {"event": "ended", "status": "failed", "error": {"message": "no", "exit_status": 5}}],
         "reverted", "failed, the database is as it was"),
        ([{"event": "begun", "kind": "maintenance", "action": "on", "live": "crm", **ANN},
          {"event": "something new", "of": "later versions", "much": {"more": 1}}], "stopped",
         "stopped before the switch, or still active"),
    ],
)  # fmt: skip
def test_runs_of_every_kind(tmp_path: Path, entries: list[dict[str, Any]], outcome: str, words: str) -> None:
    journal(tmp_path, *entries)
    found = record_of_run(tmp_path)
    assert (found.outcome, found.live) == (outcome, "crm")
    assert parts.outcome(found) == parts.outcome(report.runs(tmp_path).runs[0]) == words
    assert shown.page_of(found) and shown.text_of(found) and post_mortem.draft(found)


@pytest.mark.parametrize(
    ("status", "outcome", "state"),
    [
        ("done", "done", 'The deferred work is done: "crm" is complete.'),
        (
            "stopped",
            "switched",
            '"crm" is the restored database, in service. The deferred work is not finished, or still active.',
        ),
    ],
)
def test_what_was_finished_on_another_machine(tmp_path: Path, status: str, outcome: str, state: str) -> None:
    resumed = {"event": "resumed", "kind": "finish", **ANN, "live": "crm"}
    journal(tmp_path, resumed, {"event": "ended", "status": status})
    found = report.record_of(Inquiry(tmp_path, tmp_path, Tables(), None), RUN)
    assert (found.kind, found.live, found.outcome, found.state) == ("finish", "crm", outcome, state)
    assert [each.run for each in report.runs(tmp_path, "finish").runs] == [RUN]


def test_the_list_is_as_long_as_is_asked_for(tmp_path: Path) -> None:
    names = [f"20261122-03150{number}-00000000" for number in range(5)]
    for name in names:
        journal(tmp_path, {"event": "begun", "kind": "prune", **ANN, "live": "crm"}, run=name)
    journal(tmp_path, *switched(), run="20261122-031509-00000000")
    (tmp_path / "runs" / "20261122-031510-00000000.jsonl").write_text("")
    (tmp_path / "runs" / "20261122-031511-00000000.jsonl").write_bytes(b'{"at": 1, "event": "begun"}\n\xff\n')
    found = report.runs(tmp_path, limit=3)
    assert [each.run for each in found.runs] == ["20261122-031509-00000000", names[4], names[3]]
    assert found.more
    assert [each.kind for each in report.runs(tmp_path, "rollback").runs] == ["rollback"]
    # What only tidied up is not what a person means who names no run.
    journal(tmp_path, {"event": "begun", "kind": "validate", **ANN, "live": "crm"}, run="20261122-031512-00000000")
    (tmp_path / "runs" / "20261122-031510-00000000.jsonl").unlink()
    (tmp_path / "runs" / "20261122-031511-00000000.jsonl").unlink()
    assert record_of_run(tmp_path, None).run == "20261122-031509-00000000"


EVIL = "<script>alert(1)</script> | `x` ![p](http://e/x) [l](javascript:alert(1)) &amp;\n# h\n- [x] t \x1b]0;t\x07"


def test_what_stands_in_a_journal_does_no_harm(tmp_path: Path) -> None:
    plan = {
        **PLAN,
        "live": EVIL,
        "point": {**PLAN["point"], "path": EVIL},
        "loss": [{**PLAN["loss"][0], "name": EVIL, "by": EVIL}],
        "checklist": {"overrides": [{"item": EVIL, "reason": EVIL, "by": EVIL, "at": "2026-11-22T03:14:00Z"}]},
    }
    who = dict.fromkeys(ANN, EVIL)
    hook = {"hook": EVIL, "program": EVIL, "stage": EVIL, "seconds": 1.0, "status": 1, "output": EVIL, "problem": EVIL}
    tables = [{"schema": EVIL, "name": EVIL, "rows": 1, "digest": EVIL, "equal": True}]
    journal(
        tmp_path,
        {"event": "begun", "kind": "rollback", **who, "live": EVIL, "folder": EVIL, "plan": plan},
        {"event": "stage", "name": EVIL, "title": EVIL},
        {"event": "stage failed", "name": EVIL, "seconds": 1.0, "reason": EVIL},
        {"event": "caution", "text": EVIL},
        {"event": "program", "command": EVIL},
        {"event": "hook", **hook},
        {"event": "done", "step": "swap", "result": {"detail": EVIL}},
        {"event": EVIL, "more": EVIL},
        {"event": "ended", "status": "done", "report": {"tables": tables, "not_compared": [EVIL]}},
        {"event": "answered", "item": "users", "person": EVIL, "note": EVIL},
    )
    found = record_of_run(tmp_path)
    for text in (shown.markdown_of(found), post_mortem.draft(found)):
        tokens = MarkdownIt("commonmark").enable("table").parse(text)
        inline = [each for token in tokens for each in token.children or ()]
        assert {each.type for each in (*tokens, *inline)}.isdisjoint(
            {"html_inline", "html_block", "image", "link_open"}
        )
        assert "\x1b" not in text and "\x07" not in text
        headings = [after.content for token, after in pairwise(tokens) if token.type == "heading_open"]
        assert "h" not in headings and len(headings) >= 10
    page = shown.page_of(found)
    assert re.findall(r"<(script|img|a) ", page) == [] and "<script>" not in page
    assert html.escape("<script>alert(1)</script>") in page
    assert "\x1b" not in shown.text_of(found)


def test_the_checklist_after_and_when_it_is_due(tmp_path: Path) -> None:
    path = journal(tmp_path, *switched(), began=datetime.now(UTC) - timedelta(hours=49))
    found = record_of_run(tmp_path)
    assert found.after is not None and found.after.overdue
    assert [each.item for each in found.after.items] == list(report.TITLES)
    assert {each.item for each in found.after.open} >= {"writers", "validation", "users", "post_mortem"}
    assert [each.run for each in incidents.open_incidents(tmp_path, "crm")] == [RUN]
    assert (
        incidents.open_incidents(tmp_path, "another")
        == ()
        == incidents.open_incidents(tmp_path, "crm", "host=elsewhere")
    )
    before = path.read_bytes()
    report.attest(tmp_path, RUN, ["post_mortem", "users"], " Ann ", "in the wiki", RecordSettings())
    assert path.read_bytes().startswith(before)  # what was written stays as it was
    found = record_of_run(tmp_path)
    assert found.after is not None and not found.after.overdue
    answered = [(each.item, each.source, each.text) for each in found.after.items if each.done]
    assert answered == [(name, "attested by Ann", "in the wiki") for name in ("users", "post_mortem")]
    assert incidents.open_incidents(tmp_path, "crm") == ()
    (incident,) = incidents.incidents_of(tmp_path, "crm")
    assert (incident.point, incident.kept) == ("/srv/backups/crm.sql", "crm_old_9f3c1a70")
    # An answer of today does not make the incident one of today.
    assert datetime.now(UTC) - incident.ended > timedelta(hours=48)
    # With post-mortems turned off, none is due.
    tables = Tables(record=RecordSettings(post_mortem_within=0))
    quiet = report.record_of(Inquiry(tmp_path, tmp_path / "backups", tables, None), RUN)
    assert quiet.after is not None and quiet.after.due is None and not quiet.after.overdue


@pytest.mark.parametrize(
    ("run", "items", "person", "message", "hint"),
    [
        (
            RUN,
            ["user"],
            "Ann",
            'cannot attest "user": no such checklist item',
            f"Its items: {', '.join(report.TITLES)}. Define your own as checklist in [record] of lastgood.toml.",
        ),
        (
            RUN,
            ["users"],
            " ",
            "cannot attest an item: no person is named",
            "Name who attests it: --by NAME.",
        ),
    ],
)
def test_only_a_person_answers_and_only_for_what_is_asked(
    tmp_path: Path, run: str, items: list[str], person: str, message: str, hint: str
) -> None:
    path = journal(tmp_path, *switched())
    before = path.read_bytes()
    with pytest.raises(UsageError) as raised:
        report.attest(tmp_path, run, items, person, "", RecordSettings())
    assert (raised.value.message, raised.value.hint) == (message, hint)
    assert path.read_bytes() == before


def test_an_answer_needs_the_journal(tmp_path: Path) -> None:
    with pytest.raises(Refused) as raised:
        report.attest(tmp_path, RUN, ["users"], "Ann", "", RecordSettings())
    assert raised.value.message == (f'cannot write into the record of run "{RUN}": this machine has no journal of it')
    with pytest.raises(Refused) as raised:
        record_of_run(tmp_path, None)
    assert raised.value.message == "cannot report: this machine has no record of any run"
    with pytest.raises(Refused) as raised:
        record_of_run(tmp_path)
    assert raised.value.message == (
        f'cannot report on run "{RUN}": this machine has no journal of it, and the server was not queried'
    )


def test_a_damaged_journal_is_reported(tmp_path: Path) -> None:
    path = journal(tmp_path, *switched())
    path.write_text(path.read_text() + '{"at": "2026-11-23T10:00:00+00:00", "event": "ended", "status": []}\n')
    with pytest.raises(Refused) as raised:
        record_of_run(tmp_path)
    assert raised.value.message == f'cannot read the record "{path}": the journal is damaged'


def test_an_undo_is_found_by_what_it_undoes(tmp_path: Path) -> None:
    journal(tmp_path, *switched())
    plan = {"run": "20261122-041500-00000001", "undoes": RUN, "live": "crm", "kept": "crm_undone_00000001"}
    journal(
        tmp_path,
        {"event": "begun", "kind": "undo", **ANN, "by": "bo", "skew": 5.0, "live": "crm", "plan": plan},
        {"event": "doing", "step": "swap"},
        {"event": "done", "step": "swap", "result": {}},
        run=plan["run"],
    )
    found = record_of_run(tmp_path)
    (by,) = found.undone_by
    assert (by.run, by.by, (by.at - BEGAN).total_seconds()) == (plan["run"], "bo", 7.0)
    assert found.state == 'The rollback was completed and later undone: "crm" is again the database from before.'
    assert [(each.kind, each.undone_by) for each in report.runs(tmp_path).runs] == [("undo", ""), ("rollback", by.run)]
    assert [each.undone_by for each in report.runs(tmp_path, "rollback").runs] == [by.run]
