"""Events as they happen: a live line on a terminal, plain lines without one, JSON lines for programs."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.live import Live
from rich.text import Text

from lastgood.events import Caution, Emit, Event, Note, Printed, Progress, StageDone, StageFailed, StageStarted
from lastgood.screen.screen import Screen
from lastgood.text import units

# Without a terminal a stage says how far it is this often, so that a CI job's log neither stalls nor floods.
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
# So much of these a second tells nobody anything.
UNHURRIED = ("seconds", "tries")
# A slow reader of stderr must not slow the work down.
JSON_PROGRESS_EVERY = 0.25


@contextmanager
def events(screen: Screen, *, as_json: bool = False, quiet: bool = False) -> Iterator[Emit]:
    """An ``Emit`` for the length of a ``with`` block; it may be called from any thread and does not raise.

    ``quiet`` keeps cautions and failed stages only.
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
    """``120 MB of 240 MB, 50 %, 84 MB/s, 1,200,000 rows, 2 s left``: as much of it as is known. With phases:
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
    if unit not in UNHURRIED and (speed := units.rate(progress.done, seconds, unit)):
        parts.append(speed)
    if progress.total and progress.done and seconds >= 2:
        left = round(seconds * max(0, progress.total - progress.done) / progress.done)
        # A guess has no tenths.
        text = f"{left} s" if left < 10 else units.duration(left)
        parts.append(f"{text} left" if left else "nearly done")
    return ", ".join(parts)


def _by_phases(progress: Progress) -> Iterator[str]:
    """What is under way. The size stays when all rows are in; foreign keys are told of when the first is done, or all
    indexes are."""
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
    """When each running stage began and how far it is; stages may overlap."""

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
        """What is said of a stage. Where that is longer than ``width``, its name stands for its title."""
        progress = self.progress.get(name)
        if progress is None:
            return f"{self.title(name)} …"
        said = measure(progress, self.clock() - self.began[name])
        said += f" ({progress.detail})" if progress.detail else ""
        title = self.title(name)
        if width is not None and len(title) + len(said) + 2 > width:
            title = name.replace("_", " ")
        return f"{title}: {said}"


def _ended(event: StageDone | StageFailed, title: str) -> str:
    if isinstance(event, StageFailed):
        # What comes below the first line comes again with the error.
        reason = event.reason.partition("\n")[0]
        return f"failed  {title} after {units.duration(event.seconds)}: {reason}"
    return f"done    {title} in {units.duration(event.seconds)}" + (f": {event.detail}" if event.detail else "")


class _PlainLines:
    def __init__(self, screen: Screen, quiet: bool, stages: _Stages | None = None) -> None:
        self._screen = screen
        self._quiet = quiet
        self._stages = stages or _Stages()
        self._said: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        self._stages.follow(event)
        if isinstance(event, Caution):
            self._screen.say(event.text, first="caution ", indent=8, stderr=True)
        elif isinstance(event, StageFailed):
            self._screen.say(_ended(event, self._stages.title(event.name)), indent=8, stderr=True)
        elif self._quiet:
            return
        elif isinstance(event, StageStarted):
            self._said[event.name] = self._stages.clock()
            self._screen.say(event.title, first="start   ", indent=8, stderr=True)
        elif isinstance(event, Progress):
            now = self._stages.clock()
            if now - self._said.setdefault(event.stage, now) >= self._pause(event.stage, now):
                self._said[event.stage] = now
                self._screen.say(self._stages.line(event.stage), first="        ", indent=8, stderr=True)
        elif isinstance(event, StageDone):
            self._screen.say(_ended(event, self._stages.title(event.name)), indent=8, stderr=True)
        elif isinstance(event, Printed):
            self._screen.quote(event.line)
        else:
            self._screen.say(event.text, first="note    ", indent=8, stderr=True)

    def _pause(self, stage: str, now: float) -> float:
        """The longer a stage goes on, the less it says."""
        return max(PLAIN_EVERY, min(PLAIN_AT_LEAST_EVERY, (now - self._stages.began[stage]) / 20))


class _LiveLines:
    """What is running at the bottom of the terminal, what has ended above it."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._stages = _Stages()
        self._plain = _PlainLines(screen, quiet=False, stages=self._stages)
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
        # Called from Rich's own thread: the events' thread may change the table meanwhile.
        width = self._screen.err.width - 1
        lines = [
            self._screen.text("running " + self._stages.line(name, width - len("running ")))
            for name in list(self._stages.began)
        ]
        return Text("\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in lines), style="cyan")

    def __call__(self, event: Event) -> None:
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
        if self._quiet and not isinstance(event, Caution | StageFailed):
            return
        if isinstance(event, Progress):
            now = time.monotonic()
            ended = event.done == event.total and event.share in (None, 1.0)
            if now < self._next.get(event.stage, 0.0) and not ended:
                return
            self._next[event.stage] = now + JSON_PROGRESS_EVERY
        body: dict[str, Any] = {"event": NAMES[type(event)], **dataclasses.asdict(event)}
        self._screen.json_line(body)
