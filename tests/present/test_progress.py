"""Events as they happen."""

from __future__ import annotations

import io
import json
import threading

import pytest

from lastgood.events import Caution, Event, Note, Progress, StageDone, StageFailed, StageStarted
from lastgood.present import progress
from lastgood.present.screen import Screen

STORY: tuple[Event, ...] = (
    StageStarted("build", "build the shadow"),
    Progress("build", 50, 100, "rows", detail="public.contacts"),
    Note("a note"),
    Caution("look here"),
    StageDone("build", 1.25, "100 rows"),
    StageStarted("prove", "prove it"),
    StageFailed("prove", 0.5, "it differs"),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def told(*, as_json: bool = False, quiet: bool = False, terminal: bool = False) -> str:
    stream = Terminal() if terminal else io.StringIO()
    stdout = io.StringIO()
    screen = Screen(stdout=stdout, stderr=stream, width=80)
    with progress.events(screen, as_json=as_json, quiet=quiet) as emit:
        for event in STORY:
            emit(event)
    assert stdout.getvalue() == ""
    return stream.getvalue()


PLAIN = (
    "start   build the shadow\n"
    "note    a note\n"
    "caution look here\n"
    "done    build the shadow in 1.2 s: 100 rows\n"
    "start   prove it\n"
    "failed  prove it after 500 ms: it differs\n"
)


def test_plain_lines() -> None:
    assert told() == PLAIN


def test_quiet_keeps_cautions_and_failures() -> None:
    assert told(quiet=True) == "caution look here\nfailed  prove it after 500 ms: it differs\n"


def test_json_lines() -> None:
    lines = [json.loads(line) for line in told(as_json=True).splitlines()]
    assert [line["event"] for line in lines] == [
        "stage_started",
        "progress",
        "note",
        "caution",
        "stage_done",
        "stage_started",
        "stage_failed",
    ]
    assert lines[0] == {"format": 1, "event": "stage_started", "name": "build", "title": "build the shadow"}
    assert lines[1]["done"] == 50
    assert [json.loads(line)["event"] for line in told(as_json=True, quiet=True).splitlines()] == [
        "caution",
        "stage_failed",
    ]


def test_on_a_terminal_what_ended_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    said = told(terminal=True)
    for line in PLAIN.splitlines():
        if not line.startswith("start"):
            assert line in said
    # The last thing on the screen is not a left-over of the live line.
    assert said.rstrip().endswith("\x1b[?25h") or "running" not in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("event", "seconds", "text"),
    [
        (
            Progress("b", 120 << 20, 240 << 20, "bytes", rows=1_200_000),
            4.0,
            "120 MB of 240 MB, 50 %, 1,200,000 rows, 30 MB/s, 4 s left",
        ),
        (Progress("b", 10, 40, "tables"), 0.5, "10 of 40 tables, 25 %, 20 tables/s"),
        (Progress("b", 1000, None, "rows"), 2.0, "1,000 rows, 500 rows/s"),
        (Progress("b", 0, 100, "rows"), 0.0, "0 of 100 rows, 0 %"),
        (Progress("b", 120, 100, "rows"), 10.0, "120 of 100 rows, 100 %, 12 rows/s, nearly done"),
    ],
)
def test_how_far(event: Progress, seconds: float, text: str) -> None:
    assert progress.measure(event, seconds) == text


def test_a_stream_that_is_gone_does_not_stop_the_work() -> None:
    stream = io.StringIO()
    with progress.events(Screen(stderr=stream)) as emit:
        stream.close()
        for event in STORY:
            emit(event)


def test_events_may_come_from_any_thread() -> None:
    stream = io.StringIO()
    with progress.events(Screen(stderr=stream, width=80)) as emit:
        threads = [threading.Thread(target=emit, args=(Note(f"from thread {n}"),)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(stream.getvalue().splitlines()) == [f"note    from thread {n}" for n in range(8)]
