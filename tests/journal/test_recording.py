"""What a journal keeps besides its steps."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lastgood import __version__
from lastgood.context import Context
from lastgood.errors import ChecksFailedAfterSwap, Failed, Refused, Stopped
from lastgood.events import Caution, Event, Note, Progress, StageDone, StageFailed, StageStarted, silent
from lastgood.journal import Journal, caller, recording
from lastgood.process import run
from lastgood.text.redact import Scrubber

RUN = "20261122-031500-9f3c1a70"


@pytest.fixture(autouse=True)
def known_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    scrub = Scrubber()
    scrub.learn(["battery-staple"])
    caller.announce(("rollback", "--db", "postgresql://app:hunter22@db/crm", "--yes"), scrub)
    pipeline = (
        "GITHUB_ACTOR",
        "GITLAB_USER_LOGIN",
        "CI_JOB_URL",
        "GITHUB_SERVER_URL",
        "GITHUB_REPOSITORY",
        "GITHUB_RUN_ID",
    )
    for name in ("SSH_CONNECTION", "SSH_CLIENT", "SUDO_USER", *pipeline):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    caller.announce()


def entries(journal: Journal | None) -> list[dict[str, Any]]:
    assert journal is not None
    return [{name: value for name, value in each.items() if name != "at"} for each in journal.replay()]


def test_it_begins_with_who_where_and_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "203.0.113.7 51234 10.0.0.5 22")
    monkeypatch.setenv("SUDO_USER", "ann")
    (begun,) = entries(recording.begin(tmp_path, RUN, "rollback", skew=-0.25, live="crm"))
    assert begun.pop("pid") > 0
    assert begun == {
        "event": "begun",
        "kind": "rollback",
        "by": caller.user(),
        "host": caller.host(),
        "ssh": "203.0.113.7",
        "sudo_user": "ann",
        "command": "lastgood rollback --db 'postgresql://app:***@db/crm' --yes",
        "folder": str(tmp_path),
        "lastgood": __version__,
        "skew": -0.25,
        "live": "crm",
    }


@pytest.mark.parametrize(
    ("environment", "actor", "job"),
    [
        (
            {
                "GITHUB_ACTOR": "ann",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "example/crm",
                "GITHUB_RUN_ID": "7",
            },
            "ann",
            "https://github.com/example/crm/actions/runs/7",
        ),
        (
            {"GITLAB_USER_LOGIN": "bo", "CI_JOB_URL": "https://gitlab.com/x/-/jobs/7"},
            "bo",
            "https://gitlab.com/x/-/jobs/7",
        ),
        ({"GITHUB_REPOSITORY": "example/crm"}, None, None),
    ],
)
def test_a_pipeline_records_its_actor(environment: dict[str, str], actor: str | None, job: str | None) -> None:
    found = caller.identity(environment)
    assert (found.get("actor"), found.get("job")) == (actor, job)


def test_messages_are_recorded_without_progress(tmp_path: Path) -> None:
    journal, shown = recording.begin(tmp_path, RUN, "rollback"), list[Event]()
    output = (
        StageStarted("build", "build it"),
        Progress("build", 1, 2, "rows"),
        Note("a note"),
        Caution("the password is battery-staple"),
        StageDone("build", 1.23456, "12 rows"),
        StageFailed("prove", 0.5, "cannot prove it"),
    )
    with recording.recording(journal, shown.append) as emit:
        for event in output:
            emit(event)
        run.run([sys.executable, "-c", "", "--password=hunter22"])
        run.run([sys.executable, "--version"])
        run.run_foreign([sys.executable, "-c", "0", "a token"], environment={}, seconds=10)
        journal.write("ended", status="done")
    run.run([sys.executable, "-c", ""])
    assert shown == list(output)
    assert entries(journal)[1:] == [
        {"event": "stage", "name": "build", "title": "build it"},
        {"event": "note", "text": "a note"},
        {"event": "caution", "text": "the password is ***"},
        {"event": "stage done", "name": "build", "seconds": 1.235, "detail": "12 rows"},
        {"event": "stage failed", "name": "prove", "seconds": 0.5, "reason": "cannot prove it"},
        {"event": "program", "command": f"{sys.executable} -c '' --password=***"},
        {"event": "program", "command": sys.executable},
        {"event": "ended", "status": "done"},
    ]


def test_the_size_of_a_journal_is_limited(tmp_path: Path) -> None:
    journal = recording.begin(tmp_path, RUN, "rollback")
    with recording.recording(journal, silent) as emit:
        for _ in range(2000):
            emit(Note("n" * 5000))
        emit(Caution("look at this"))
        journal.write("ended", status="done")
    assert journal.path.stat().st_size < 80_000
    assert entries(journal)[-2:] == [
        {"event": "caution", "text": "look at this"},
        {"event": "ended", "status": "done"},
    ]


@pytest.mark.parametrize(
    ("error", "status", "code", "exit_status"),
    [
        (Failed("cannot build it: battery-staple", hint="Try again.", state="As it was."), "failed", "failed", 5),
        (Refused("cannot: no", hint="Try again.", state="As it was."), "failed", "refused", 3),
        (ChecksFailedAfterSwap("cannot: no", hint="Try again.", state="As it was."), "undone", "undone", 6),
        (Stopped("cannot: no", hint="Try again.", state="As it was."), "stopped", "stopped", 7),
        (KeyboardInterrupt(), "interrupted", "interrupted", 130),
        (ZeroDivisionError("one by battery-staple"), "failed", "defect", 1),
    ],
)
def test_an_error_is_how_it_ended(
    tmp_path: Path, error: BaseException, status: str, code: str, exit_status: int
) -> None:
    journal = recording.begin(tmp_path, RUN, "undo")
    with pytest.raises(type(error)), recording.recording(journal, silent):
        raise error
    ended = entries(journal)[-1]
    assert (ended["event"], ended["status"]) == ("ended", status)
    assert (ended["error"]["code"], ended["error"]["exit_status"]) == (code, exit_status)
    assert "battery" not in json.dumps(ended)
    if isinstance(error, Failed):
        assert ended["error"] == {
            "code": "failed",
            "message": "cannot build it: ***",
            "hint": "Try again.",
            "state": "As it was.",
            "exit_status": 5,
        }


def test_what_ended_has_ended_once(tmp_path: Path) -> None:
    journal = recording.begin(tmp_path, RUN, "undo")
    with pytest.raises(Stopped), recording.recording(journal, silent):
        journal.write("ended", status="undone")
        raise Stopped("cannot: no")
    assert [each["event"] for each in entries(journal)] == ["begun", "ended"]


def test_without_a_record_nothing_that_could_harm_is_done(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where the folder should be")
    with pytest.raises(Refused) as raised:
        recording.begin(tmp_path, RUN, "rollback")
    assert str(raised.value) == f'cannot create the journal "{tmp_path}/runs/{RUN}.jsonl": not a directory'
    shown = list[Event]()
    assert recording.begin_if_possible(Context(shown.append, state=tmp_path), RUN, "maintenance") is None
    assert shown == [Caution(f"this run will not be recorded: {raised.value}")]
    assert recording.begin_if_possible(Context(shown.append), RUN, "maintenance") is None
    recording.record_short_run(tmp_path, "validate", status="done")  # it was only a look
    with recording.recording(None, silent) as emit:
        assert emit is silent


def test_a_full_disk_takes_the_notes_and_nothing_else(tmp_path: Path) -> None:
    journal = recording.begin(tmp_path, RUN, "rollback")
    journal.path.unlink()
    journal.path.mkdir()  # not writable, even by root
    with recording.recording(journal, silent) as emit:
        emit(Note("said"))
        recording.write_end(journal, "done")
