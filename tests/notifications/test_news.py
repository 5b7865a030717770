"""The texts of notifications."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest

from lastgood.config.tables.application import Event
from lastgood.errors import (
    BadPoint,
    ChecksFailed,
    ChecksFailedAfterSwap,
    Failed,
    Interrupted,
    LastgoodError,
    NotStarted,
    NotTakenBack,
    Refused,
    Stopped,
    TakenBack,
)
from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import Plan, PlannedPoint
from lastgood.screen import news

THEN = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
NOW = THEN + timedelta(hours=6)
RUN = "20261123-080000-9f3c1a70"
FIGURES = [("Run", RUN), ("By", "ann on web-1"), ("Server", ""), ("Command", "lastgood rollback")]


def plan(*losses: TableLoss) -> Plan:
    point = PlannedPoint(
        path="backups/crm_20261123_020000.sql",
        kind="plain",
        made_at=THEN,
        time_source="manifest",
        bytes=1,
        rows=1,
        tables=1,
    )
    return Plan(
        run=RUN,
        made_at=NOW,
        server="",
        server_version="18",
        live="crm",
        live_oid=1,
        live_bytes=1,
        maintenance="postgres",
        shadow="crm_shadow_1",
        kept="crm_old_1",
        point=point,
        fence="now",
        keep_shadow=False,
        carry_owners=True,
        carry_acls=True,
        expected_seconds=130,
        loss=losses,
        findings=(),
        steps=(),
    )


def loss(
    name: str,
    live: int | None,
    point: int | None,
    since: int | None = None,
    schema: str = "public",
    content: Literal["changed"] | None = None,
) -> TableLoss:
    return TableLoss(
        schema_name=schema, name=name, live_rows=live, point_rows=point, written_since=since, content=content
    )


def test_a_rollback_that_begins() -> None:
    story = news.rollback_begun(plan(loss("contacts", 120, 100, 37), loss("deals", 12, 10), loss("same", 5, 5, 0)))
    message = news.message(story, "rollback", "crm on db.example.org", FIGURES)
    assert (set(message.events), message.severity) == ({"start"}, "info")
    assert message.title == "crm on db.example.org: rollback started"
    assert message.text == (
        '"crm" is being rolled back to crm_20261123_020000.sql, made 2026-11-23 02:00:00 UTC (6 hours ago).\n'
        "\n"
        'State: Nothing was changed yet. "crm" is readable until the switch; writes are blocked from now on.\n'
        "\n"
        "Lost: 39 rows written since the restore point (contacts 37, deals 2). "
        'Everything is kept in "crm_old_1".\n'
        "\n"
        "Next: No action needed. lastgood status shows the progress.\n"
        "\n"
        "Expected: about 2 min 10 s\n"
        f"Run: {RUN}\n"
        "By: ann on web-1\n"
        "Command: lastgood rollback\n"
    )
    assert message.markdown == (
        '"crm" is being rolled back to crm\\_20261123\\_020000.sql, made 2026-11-23 02:00:00 UTC (6 hours ago).\n'
        "\n"
        '**State:** Nothing was changed yet. "crm" is readable until the switch; writes are blocked from now '
        "on.\n\n"
        "**Lost:** 39 rows written since the restore point (contacts 37, deals 2). "
        'Everything is kept in "crm\\_old\\_1".\n'
        "\n"
        "**Next:** No action needed. lastgood status shows the progress.\n"
        "\n"
        "- Expected: about 2 min 10 s\n"
        f"- Run: {RUN}\n"
        "- By: ann on web-1\n"
        "- Command: lastgood rollback\n"
    )
    assert message.html.startswith("<p>&quot;crm&quot; is being rolled back to crm_20261123_020000.sql, made")
    assert "<p><strong>Lost:</strong> 39 rows" in message.html


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ((), "Nothing by row counts and time stamps; changes to existing rows are reverted, too."),
        ((loss("notes", None, 3),), "Nothing: no row differs from the restore point."),
        ((loss("notes", 3, 3),), "Nothing by row counts and time stamps; changes to existing rows are reverted, too."),
        ((loss("notes", 3, 3, content="changed"),), "rows changed in place in notes."),
        (
            (loss("e", 4, None), loss("b", 1, None, schema="x"), loss("c", 1, None), loss("d", 1, None)),
            "4 tables created since then (e, x.b, c and 1 more).",
        ),
        (
            tuple(loss(name, 2, 1) for name in "abcde"),
            "5 rows written since the restore point (a 1, b 1, c 1 and 2 other tables).",
        ),
    ],
)
def test_what_is_lost(losses: tuple[TableLoss, ...], expected: str) -> None:
    assert news.loss_summary(losses, "crm_old_1") == f'{expected} Everything is kept in "crm_old_1".'
    in_place = news.loss_summary(losses, "lastgood_kept_1_*", "in-place")
    assert in_place == f'{expected} Everything is kept in the schemas "lastgood_kept_1_*".'


@pytest.mark.parametrize(
    ("error", "title", "events"),
    [
        (Refused("cannot"), "rollback refused, nothing changed", {"failure"}),
        (BadPoint("cannot"), "rollback failed, the restore point is unusable", {"failure"}),
        (Failed("cannot"), "rollback failed, nothing switched", {"failure"}),
        (Interrupted("interrupted"), "rollback interrupted", {"failure"}),
        (Stopped("cannot"), "rollback interrupted, to be resumed or aborted", {"failure"}),
        (NotStarted("cannot"), "the application is stopped and did not start", {"failure"}),
        (
            ChecksFailed("cannot", hint="", state="", run=RUN, problem="x"),
            "restored, but the application checks failed",
            {"failure"},
        ),
        (
            ChecksFailedAfterSwap("cannot"),
            "rollback undone, application checks failed",
            {"failure", "undo"},
        ),
        (TakenBack("cannot"), "rollback failed and was rolled back", {"failure", "undo"}),
        (NotTakenBack("cannot"), "rollback FAILED and was not rolled back", {"failure"}),
        (LastgoodError("a defect in lastgood (KeyError)"), "rollback terminated unexpectedly", {"failure"}),
    ],
)
def test_how_a_failure_is_called(error: LastgoodError, title: str, events: set[Event]) -> None:
    story = news.failed(error, "rollback", "crm")
    assert (story.title, set(story.events)) == (title, events)


def test_a_failure_has_the_state_and_the_next_step() -> None:
    error = Stopped(
        "cannot finish the run after the switch: the server went away",
        hint=f"Run: lastgood resume {RUN} to finish, or lastgood undo to go back.\nSee the log.",
        state='"crm" is the restored database; the previous one is kept as "crm_old_1".',
    )
    message = news.message(news.failed(error, "rollback", "crm"), "rollback", "crm", FIGURES[:2])
    assert message.severity == "failure"
    assert message.text == (
        'The rollback of "crm": cannot finish the run after the switch: the server went away.\n'
        "\n"
        'State: "crm" is the restored database; the previous one is kept as "crm_old_1".\n'
        "\n"
        f"Next: Run: lastgood resume {RUN} to finish, or lastgood undo to go back.\n"
        "See the log.\n"
        "\n"
        f"Run: {RUN}\n"
        "By: ann on web-1\n"
    )


def test_names_do_nothing_to_the_reader() -> None:
    hostile = "<script>x</script>\n# [a](javascript:b) `c` \x1b[31m @everyone"
    story = news.Story(frozenset({"failure"}), hostile, hostile, hostile, hostile, hostile, (("Run", hostile),))
    message = news.message(story, "rollback", hostile, [("By", hostile)])
    assert "\n" not in message.title and "\x1b" not in message.title + message.text + message.markdown + message.html
    assert "@everyone" not in message.title + message.text + message.markdown + message.html
    assert "<script" not in message.html and "<a " not in message.html and "<h1" not in message.html


def test_long_errors_are_cut() -> None:
    story = news.failed(Failed("cannot " + "x" * 5000), "rollback", "crm")
    assert len(news.message(story, "rollback", "crm", []).text) < 1400
