"""The guardian: a process of its own that lets PgBouncer's clients go on when we can't.

A pause outlives the session that asked for it, so a run that is killed between PAUSE and RESUME would leave production
waiting for ever. Before anything is paused, the guardian is started and opens its own sessions at the consoles. It
reads from us: ``done`` is the end of it. When its input ends without that word, we are gone; when the word does not
come in time, we are stuck; either way it resumes what is paused, writes it into the run's journal, and ends. Until we
told it that the pause ``holds``, a PAUSE of ours may still be on its way: then it looks for a while whether one comes.

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
# How long a PAUSE that was sent may be on its way.
QUIET_SECONDS = 2.0
# How long it tries to reach a PgBouncer that does not answer.
PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Watched:
    """One console, those of its databases that are about to be paused, and ``settings`` to be put back to these
    values."""

    target: Target = field(repr=False)
    databases: tuple[str, ...]
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Order:
    """What the guardian is told. ``seconds``: without the word for so long, we are taken for stuck."""

    watched: tuple[Watched, ...]
    seconds: float
    journal: Path

    def text(self) -> str:
        """One line. It may hold passwords: for a pipe, never for a file or an argument."""
        consoles = [
            {"keywords": dict(each.target.keywords), "databases": each.databases, "settings": dict(each.settings)}
            for each in self.watched
        ]
        return json.dumps({"consoles": consoles, "seconds": self.seconds, "journal": str(self.journal)})

    @classmethod
    def parse(cls, line: str) -> Order:
        """What ``text`` wrote."""
        found = json.loads(line)
        watched = tuple(
            Watched(Target(each["keywords"]), tuple(each["databases"]), each["settings"]) for each in found["consoles"]
        )
        return cls(watched, found["seconds"], Path(found["journal"]))


class Guardian:
    """Our side of it: it stands by until it is told that all is done."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.pid = companion.pid

    def pause_holds(self) -> None:
        """Tells it that everything is paused that was to be: what is paused later is somebody else's."""
        with suppress(OSError):
            self._companion.say(HOLDS)

    def dismiss(self) -> None:
        """Tells it that nothing of ours is paused any more."""
        with suppress(OSError):  # it is gone already
            self._companion.say(DONE)


@contextmanager
def standing_by(order: Order) -> Iterator[Guardian]:
    """A guardian for the length of a block; unless dismissed, it acts when the block ends. Raises NotReady: it could
    not be started, or can't reach a console."""
    with companion.standing_by("lastgood.deadman.pgbouncer", order.text()) as found:
        yield Guardian(found)


def main() -> int:
    """The guardian itself."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)  # what ends us ends its input, and that is what it goes by
    ear = _Ear()
    order = Order.parse(ear.line(None))
    sessions: dict[int, Console] = {}
    try:
        for number, each in enumerate(order.watched):
            sessions[number] = Console(each.target)
    except ConsoleError as error:
        print(f"it can't reach PgBouncer: {error}", flush=True)
        return 1
    print(READY, flush=True)
    deadline, holds = time.monotonic() + order.seconds, False
    while word := ear.line(deadline):
        if word == DONE:
            return 0
        holds = holds or word == HOLDS
    resumed = let_go(order.watched, sessions, 0.0 if holds else QUIET_SECONDS)
    with suppress(OSError):
        journal = Journal(order.journal)
        if order.journal.name.endswith(SUFFIX) and order.journal.exists():
            journal.write("pause over", by="guardian", databases=sorted(resumed))
    return 0


class _Ear:
    """What we say to it, line by line; nothing is read ahead, so that the next line can be waited for."""

    def __init__(self) -> None:
        self._heard = b""

    def line(self, deadline: float | None) -> str:
        """The next line; empty when our end of the pipe is closed, or nothing comes in time."""
        while b"\n" not in self._heard:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([sys.stdin.fileno()], [], [], left)
            more = os.read(sys.stdin.fileno(), 65536) if ready else b""
            if not more:
                return ""
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()


def let_go(watched: tuple[Watched, ...], sessions: dict[int, Console], quiet: float = QUIET_SECONDS) -> set[str]:
    """Resumes what is paused of ``watched`` until nothing has been for ``quiet`` seconds; returns the names."""
    resumed: set[str] = set()
    reset: set[int] = set()
    started = quiet_since = time.monotonic()
    while time.monotonic() - started < PATIENCE_SECONDS:
        looked = time.monotonic()
        for number, each in enumerate(watched):
            try:
                if number not in sessions or sessions[number].broken:
                    sessions[number] = Console(each.target)
                found = _resume(sessions[number], each.databases)
                if number not in reset:
                    for name, value in each.settings.items():
                        sessions[number].set(name, value)
                    reset.add(number)
            except ConsoleError:
                quiet_since = time.monotonic()  # it may be paused: nobody can tell
                continue
            if found:
                resumed |= found
                quiet_since = looked
        if quiet_since <= looked - quiet:
            break
        time.sleep(POLL_SECONDS)  # PgBouncer announces nothing
    return resumed


def _resume(console: Console, names: tuple[str, ...]) -> set[str]:
    found = {entry.name for entry in console.entries() if entry.paused and entry.name in names}
    for name in found:
        console.resume(name)
    return found


if __name__ == "__main__":
    sys.exit(main())
