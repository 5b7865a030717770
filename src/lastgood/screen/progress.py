"""Progress output: live lines on a terminal, plain lines otherwise, JSON lines for programs."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.live import Live
from rich.text import Text

from lastgood.events import (
    Caution,
    Emit,
    Event,
    ExpectedStages,
    Note,
    Printed,
    Progress,
    StageDone,
    StageFailed,
    StageStarted,
)
from lastgood.screen.overall import Overall
from lastgood.screen.screen import Screen
from lastgood.text import units

# How often a stage reports progress without a terminal, so that a CI log neither stalls nor floods.
PLAIN_EVERY = 10.0
PLAIN_AT_LEAST_EVERY = 60.0
REDRAWS = 8.0
NAMES = {
    StageStarted: "stage_started",
    Progress: "progress",
    StageDone: "stage_done",
    StageFailed: "stage_failed",
    Note: "note",
    Caution: "caution",
    Printed: "printed",
}
# Units without a meaningful rate.
WITHOUT_RATE = ("seconds", "tries")
# Few lines: a slow reader of stderr must not delay the work.
JSON_PROGRESS_EVERY = 0.25


@contextmanager
def events(screen: Screen, *, as_json: bool = False, quiet: bool = False) -> Iterator[Emit]:
    """Provide an ``Emit`` for the length of a ``with`` block. It is thread-safe and does not raise.

    ``quiet`` shows only cautions and failed stages.
    """
    if as_json:
        yield _one_at_a_time(_JsonLines(screen, quiet))
    elif quiet or not screen.err.is_terminal:
        yield _one_at_a_time(_PlainLines(screen, quiet))
    else:
        live = _LiveLines(screen)
        try:
            yield _one_at_a_time(live)
        finally:
            live.close()


def _one_at_a_time(render: Emit) -> Emit:
    lock = threading.Lock()

    def emit(event: Event) -> None:
        with lock:
            render(event)

    return emit


def measure(progress: Progress, seconds: float) -> str:
    """Render ``120 MB of 240 MB, 50 %, 84 MB/s, 1,200,000 rows, 2 s left``, as far as known. With phases:
    ``412 MB of 1.2 GB, 88 MB/s, 3 of 12 indexes, about 14 s left``."""
    if progress.phases:
        return ", ".join(_by_phases(progress))
    unit = progress.unit
    done = units.size(progress.done) if unit == "bytes" else units.number(progress.done)
    parts = []
    if progress.total:
        total = units.size(progress.total) if unit == "bytes" else f"{units.number(progress.total)} {unit}"
        parts += [f"{done} of {total}", f"{min(100, 100 * progress.done // progress.total)} %"]
    else:
        parts.append(done if unit == "bytes" else f"{done} {unit}")
    if progress.rows and unit != "rows":
        parts.append(f"{units.number(progress.rows)} rows")
    if unit not in WITHOUT_RATE and (speed := units.rate(progress.done, seconds, unit)):
        parts.append(speed)
    if progress.total and progress.done and seconds >= 2:
        seconds_left = round(seconds * max(0, progress.total - progress.done) / progress.done)
        # Estimates have no tenths.
        text = f"{seconds_left} s" if seconds_left < 10 else units.duration(seconds_left)
        parts.append(f"{text} left" if seconds_left else "nearly done")
    return ", ".join(parts)


def _by_phases(progress: Progress) -> Iterator[str]:
    """Yield the phases in progress. The size remains when all rows are loaded. Foreign keys are shown once the first is
    done, or all indexes are."""
    waiting = False
    for phase in progress.phases:
        if phase.unit == "bytes":
            amount = f"{units.size(phase.done)} of {units.size(phase.total)}"
        else:
            amount = f"{units.number(phase.done)} of {units.number(phase.total)} {phase.unit}"
        if phase.name == "rows":
            yield amount if phase.done < phase.total else units.size(phase.total)
            if progress.rate:
                yield f"{units.size(progress.rate)}/s"
        elif phase.name == "reading back":
            if 0 < phase.done < phase.total:
                yield f"read back {amount}"
        elif phase.done < phase.total:
            if phase.done or not waiting:
                yield f"statistics of {amount}" if phase.name == "statistics" else amount
            waiting = True
    if progress.seconds_left is not None:
        yield f"{units.roughly(progress.seconds_left)} left" if progress.seconds_left >= 0.5 else "nearly done"


class _Stages:
    """The start and progress of each running stage; stages may overlap."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.began: dict[str, float] = {}
        self.titles: dict[str, str] = {}
        self.progress: dict[str, Progress] = {}

    def follow(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.began[event.name] = self.clock()
            self.titles[event.name] = event.title
        elif isinstance(event, Progress):
            self.began.setdefault(event.stage, self.clock())
            self.progress[event.stage] = event
        elif isinstance(event, StageDone | StageFailed):
            self.began.pop(event.name, None)
            self.progress.pop(event.name, None)

    def title(self, name: str) -> str:
        return self.titles.get(name, name.replace("_", " "))

    def line(self, name: str, width: int | None = None) -> str:
        """Render the line of a stage. If it is longer than ``width``, the name replaces the title."""
        progress = self.progress.get(name)
        if progress is None:
            return f"{self.title(name)} …"
        amount = measure(progress, self.clock() - self.began[name])
        amount += f" ({progress.detail})" if progress.detail else ""
        title = self.title(name)
        if width is not None and len(title) + len(amount) + 2 > width:
            title = name.replace("_", " ")
        return f"{title}: {amount}"


def _ended(event: StageDone | StageFailed, title: str) -> str:
    if isinstance(event, StageFailed):
        # The further lines are shown with the error.
        reason = event.reason.partition("\n")[0]
        return f"failed  {title} after {units.duration(event.seconds)}: {reason}"
    return f"done    {title} in {units.duration(event.seconds)}" + (f": {event.detail}" if event.detail else "")


class _PlainLines:
    def __init__(self, screen: Screen, quiet: bool, stages: _Stages | None = None) -> None:
        self._screen = screen
        self._quiet = quiet
        self._stages = stages or _Stages()
        self._reported: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        self._stages.follow(event)
        if isinstance(event, Caution):
            self._screen.say(event.text, first="caution ", indent=8, stderr=True)
        elif isinstance(event, StageFailed):
            self._screen.say(_ended(event, self._stages.title(event.name)), indent=8, stderr=True)
        elif self._quiet or isinstance(event, ExpectedStages):
            return
        elif isinstance(event, StageStarted):
            self._reported[event.name] = self._stages.clock()
            self._screen.say(event.title, first="start   ", indent=8, stderr=True)
        elif isinstance(event, Progress):
            now = self._stages.clock()
            if now - self._reported.setdefault(event.stage, now) >= self._pause(event.stage, now):
                self._reported[event.stage] = now
                self._screen.say(self._stages.line(event.stage), first="        ", indent=8, stderr=True)
        elif isinstance(event, StageDone):
            self._screen.say(_ended(event, self._stages.title(event.name)), indent=8, stderr=True)
        elif isinstance(event, Printed):
            self._screen.quote(event.line)
        else:
            self._screen.say(event.text, first="note    ", indent=8, stderr=True)

    def _pause(self, stage: str, now: float) -> float:
        """Return the interval between reports, longer for long stages."""
        return max(PLAIN_EVERY, min(PLAIN_AT_LEAST_EVERY, (now - self._stages.began[stage]) / 20))


class _LiveLines:
    """Shows running stages at the bottom of the terminal, with a bar for the whole run, and ended ones above."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stages = _Stages()
        self._plain = _PlainLines(screen, quiet=False, stages=self._stages)
        self._overall: Overall | None = None
        self._live = Live(
            console=screen.err,
            get_renderable=self._running,
            refresh_per_second=REDRAWS,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def _running(self) -> Text:
        # Called from Rich's thread: the thread of the events may change the stages meanwhile.
        width = self._screen.err.width - 1
        lines = [
            self._screen.text("running " + self._stages.line(name, width - len("running ")))
            for name in list(self._stages.began)
        ]
        if lines and self._overall is not None:
            lines.append(self._overall.line(dict(self._stages.progress)))
        return Text("\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines), style="cyan")

    def __call__(self, event: Event) -> None:
        if isinstance(event, ExpectedStages):
            self._overall = Overall(event, self._stages.clock)
        elif self._overall is not None:
            self._overall.follow(event)
        if isinstance(event, StageStarted | Progress):
            self._stages.follow(event)
        else:
            self._plain(event)

    def close(self) -> None:
        self._live.stop()


class _JsonLines:
    def __init__(self, screen: Screen, quiet: bool) -> None:
        self._screen = screen
        self._quiet = quiet
        self._next: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, ExpectedStages) or (self._quiet and not isinstance(event, Caution | StageFailed)):
            return
        if isinstance(event, Progress):
            now = time.monotonic()
            ended = event.done == event.total and event.share in (None, 1.0)
            if now < self._next.get(event.stage, 0.0) and not ended:
                return
            self._next[event.stage] = now + JSON_PROGRESS_EVERY
        body: dict[str, Any] = {"event": NAMES[type(event)], **dataclasses.asdict(event)}
        self._screen.json_line(body)
