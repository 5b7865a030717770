"""Events as they happen."""

from __future__ import annotations

import io
import json
import threading
from dataclasses import replace

import pytest

from lastgood.events import Caution, Event, Note, Phase, Progress, StageDone, StageFailed, StageStarted
from lastgood.screen import progress
from lastgood.screen.screen import Screen

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


def rendered(*, as_json: bool = False, quiet: bool = False, terminal: bool = False) -> str:
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
    assert rendered() == PLAIN


def test_quiet_keeps_cautions_and_failures() -> None:
    assert rendered(quiet=True) == "caution look here\nfailed  prove it after 500 ms: it differs\n"


def test_json_lines() -> None:
    lines = [json.loads(line) for line in rendered(as_json=True).splitlines()]
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
    assert [json.loads(line)["event"] for line in rendered(as_json=True, quiet=True).splitlines()] == [
        "caution",
        "stage_failed",
    ]


def test_on_a_terminal_what_ended_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = rendered(terminal=True)
    for line in PLAIN.splitlines():
        if not line.startswith("start"):
            assert line in text
    # The last thing on the screen is not a left-over of the live line.
    assert text.rstrip().endswith("\x1b[?25h") or "running" not in text.splitlines()[-1]


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


ROWS, ALL_ROWS = Phase("rows", 412 << 20, 1200 << 20, "bytes", 9.0), Phase("rows", 1200 << 20, 1200 << 20, "bytes", 0.0)
INDEXES, ALL_INDEXES = Phase("indexes", 3, 12, "indexes", 12.0), Phase("indexes", 12, 12, "indexes", 0.0)
KEYS, FIRST_KEY = Phase("keys", 0, 5, "foreign keys", 14.0), Phase("keys", 1, 5, "foreign keys", 14.0)
BACK, HALF_BACK = (Phase("reading back", done << 20, 1200 << 20, "bytes", 10.0) for done in (0, 600))
STATISTICS = Phase("statistics", 1, 3, "tables", 1.0)


def a_load(*phases: Phase, rate: int | None = None, seconds_left: float | None = None, detail: str = "") -> Progress:
    rows = phases[0]
    return Progress(
        "build",
        rows.done,
        rows.total,
        "bytes",
        1_200_000,
        detail,
        phases=phases,
        rate=rate,
        seconds_left=seconds_left,
        share=0.5,
    )


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            a_load(ROWS, INDEXES, KEYS, BACK, rate=88 << 20, seconds_left=14.2),
            "412 MB of 1.2 GB, 88 MB/s, 3 of 12 indexes, about 14 s left",
        ),
        (a_load(ROWS, INDEXES, FIRST_KEY, rate=0), "412 MB of 1.2 GB, 3 of 12 indexes, 1 of 5 foreign keys"),
        (
            a_load(ALL_ROWS, ALL_INDEXES, KEYS, HALF_BACK, seconds_left=83.0),
            "1.2 GB, 0 of 5 foreign keys, read back 600 MB of 1.2 GB, about 1 min 25 s left",
        ),
        (
            a_load(ALL_ROWS, ALL_INDEXES, STATISTICS, seconds_left=0.4),
            "1.2 GB, statistics of 1 of 3 tables, nearly done",
        ),
        (a_load(ALL_ROWS, seconds_left=0.0), "1.2 GB, nearly done"),
    ],
)
def test_how_far_a_load_is(event: Progress, text: str) -> None:
    assert progress.measure(event, 10.0) == text


LOADING = a_load(ROWS, INDEXES, KEYS, BACK, rate=88 << 20, seconds_left=14.2, detail="index public.a_idx")


def test_the_line_of_a_load_gives_way_to_a_narrow_terminal() -> None:
    stages = progress._Stages(lambda: 0.0)
    stages.follow(StageStarted("build", "build the restored database next to the live one"))
    stages.follow(LOADING)
    text = "412 MB of 1.2 GB, 88 MB/s, 3 of 12 indexes, about 14 s left (index public.a_idx)"
    assert stages.line("build", 200) == f"build the restored database next to the live one: {text}"
    assert stages.line("build", 100) == f"build: {text}"


def test_without_a_terminal_a_long_stage_reports_less_often() -> None:
    stream, now = io.StringIO(), 0.0
    screen = Screen(stdout=io.StringIO(), stderr=stream, width=120)
    plain = progress._PlainLines(screen, quiet=False, stages=progress._Stages(lambda: now))
    plain(StageStarted("build", "build it"))
    seconds_of_lines: list[int] = []
    for tenth in range(36_000):
        now = tenth / 10
        before = stream.tell()
        plain(LOADING)
        if stream.tell() > before:
            seconds_of_lines.append(round(now))
    assert seconds_of_lines[:4] == [10, 20, 30, 40]
    assert seconds_of_lines[-1] - seconds_of_lines[-2] == 60
    assert len(seconds_of_lines) < 100
    assert stream.getvalue().splitlines()[:2] == [
        "start   build it",
        "        build it: 412 MB of 1.2 GB, 88 MB/s, 3 of 12 indexes, about 14 s left (index public.a_idx)",
    ]


def test_a_load_as_json() -> None:
    stream = io.StringIO()
    with progress.events(Screen(stdout=io.StringIO(), stderr=stream), as_json=True) as emit:
        for _ in range(3):
            emit(a_load(ALL_ROWS, INDEXES, seconds_left=14.2))  # all rows are in, and yet this is not the end
        emit(replace(a_load(ALL_ROWS, ALL_INDEXES, seconds_left=0.0), share=1.0))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    size = 1200 << 20
    assert lines == [
        {
            "format": 1,
            "event": "progress",
            "stage": "build",
            "done": size,
            "total": size,
            "unit": "bytes",
            "rows": 1_200_000,
            "detail": "",
            "phases": [
                {"name": "rows", "done": size, "total": size, "unit": "bytes", "seconds_left": 0.0},
                {"name": "indexes", "done": indexes, "total": 12, "unit": "indexes", "seconds_left": rest},
            ],
            "rate": None,
            "seconds_left": left,
            "share": share,
        }
        for indexes, rest, left, share in ((3, 12.0, 14.2, 0.5), (12, 0.0, 0.0, 1.0))
    ]


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
