"""The guardian: a separate process that resumes PgBouncer's clients when the run cannot.

A pause outlives the session that requested it, so a run that is killed between PAUSE and RESUME would block production
for ever. Before the pause the guardian is started and opens its own sessions in the consoles. It reads words from the
run; ``done`` dismisses it. Its input ends without that word if the run died; the word is late if the run is stuck. In
both cases it resumes the paused databases, writes that to the run's journal, and exits. Until the run sent ``holds``, a
PAUSE may still be on its way: then the guardian checks for a while whether one arrives.

    python -m lastgood.deadman.pgbouncer < order
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from lastgood.journal import SUFFIX, Journal
from lastgood.postgres.pgbouncer.console import Console, ConsoleError
from lastgood.postgres.server import Target
from lastgood.process import companion
from lastgood.process.companion import READY, Companion

HOLDS, DONE = "holds", "done"
POLL_SECONDS = 0.05
# The time that a PAUSE may take to arrive.
QUIET_SECONDS = 2.0
# The time for attempts to reach a PgBouncer that does not answer.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Watched:
    """One console, the databases that the run is about to pause, and ``settings`` with the values to restore."""

    target: Target = field(repr=False)
    databases: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """The order to the guardian. ``seconds``: without the word for this long, the run counts as stuck."""

    watched: tuple[Watched, ...]
    seconds: float
    journal: Path

    def text(self) -> str:
        """The order as one line. It may hold passwords: for a pipe, never for a file or an argument."""
        consoles = [
            {"keywords": dict(each.target.keywords), "databases": each.databases, "settings": dict(each.settings)}
            for each in self.watched
        ]
        return json.dumps({"consoles": consoles, "seconds": self.seconds, "journal": str(self.journal)})

    @classmethod
    def parse(cls, line: str) -> Order:
        """The order from the line of ``text``."""
        order = json.loads(line)
        watched = tuple(
            Watched(Target(each["keywords"]), tuple(each["databases"]), each["settings"]) for each in order["consoles"]
        )
        return cls(watched, order["seconds"], Path(order["journal"]))


class Guardian:
    """The run's side of the guardian, which acts unless it is dismissed."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.pid = companion.pid

    def pause_holds(self) -> None:
        """Report that the pause is complete: a later pause is not this run's."""
        with suppress(OSError):
            self._companion.write(HOLDS)

    def dismiss(self) -> None:
        """Report that nothing of this run is paused any more."""
        with suppress(OSError):  # it has already ended
            self._companion.write(DONE)


@contextmanager
def standing_by(order: Order) -> Iterator[Guardian]:
    """A guardian for the length of a block; unless dismissed, it acts when the block ends. Raises NotReady when it
    cannot be started, or cannot reach a console."""
    with companion.standing_by("lastgood.deadman.pgbouncer", order.text()) as started:
        yield Guardian(started)


def main() -> int:
    """Run the guardian."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # it reacts only to the end of its input
    lines = _Input()
    order = Order.parse(lines.next(None))
    sessions: dict[int, Console] = {}
    try:
        for number, each in enumerate(order.watched):
            sessions[number] = Console(each.target)
    except ConsoleError as error:
        print(f"it cannot reach PgBouncer: {error}", flush=True)
        return 1
    print(READY, flush=True)
    deadline, holds = time.monotonic() + order.seconds, False
    while word := lines.next(deadline):
        if word == DONE:
            return 0
        holds = holds or word == HOLDS
    resumed = resume_paused(order.watched, sessions, 0.0 if holds else QUIET_SECONDS)
    with suppress(OSError):
        journal = Journal(order.journal)
        if order.journal.name.endswith(SUFFIX) and order.journal.exists():
            journal.write("pause over", by="guardian", databases=sorted(resumed))
    return 0


class _Input:
    """The input of the guardian, line by line, with a time limit for each; unbuffered, so that select() works."""

    def __init__(self) -> None:
        self._buffer = b""

    def next(self, deadline: float | None) -> str:
        """The next line; empty when the other end of the pipe is closed, or none comes in time."""
        while b"\n" not in self._buffer:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([sys.stdin.fileno()], [], [], left)
            more = os.read(sys.stdin.fileno(), 65536) if ready else b""
            if not more:
                return ""
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()


def resume_paused(watched: tuple[Watched, ...], sessions: dict[int, Console], quiet: float = QUIET_SECONDS) -> set[str]:
    """Resume paused databases of ``watched`` until none was paused for ``quiet`` seconds; return their names."""
    resumed: set[str] = set()
    reset: set[int] = set()
    started = quiet_since = time.monotonic()
    while time.monotonic() - started < PATIENCE_SECONDS:
        now = time.monotonic()
        for number, each in enumerate(watched):
            try:
                if number not in sessions or sessions[number].broken:
                    sessions[number] = Console(each.target)
                names = _resume(sessions[number], each.databases)
                if number not in reset:
                    for name, value in each.settings.items():
                        sessions[number].set(name, value)
                    reset.add(number)
            except ConsoleError:
                quiet_since = time.monotonic()  # it may be paused: unknown
                continue
            if names:
                resumed |= names
                quiet_since = now
        if quiet_since <= now - quiet:
            break
        time.sleep(POLL_SECONDS)  # no event announces a pause
    return resumed


def _resume(console: Console, names: tuple[str, ...]) -> set[str]:
    paused = {entry.name for entry in console.entries() if entry.paused and entry.name in names}
    for name in paused:
        console.resume(name)
    return paused


if __name__ == "__main__":
    sys.exit(main())
