"""A dead-man switch: a separate process that acts when lastgood has been killed.

Its input is one line with an order, and then words from lastgood, each a line. ``done`` dismisses it. If the input ends
without ``done``, lastgood was killed; if the order has a time limit and ``done`` is late, lastgood is stuck. In both
cases the switch acts and exits. Signals do not end it: it reacts only to its input.

    python -m lastgood.deadman.MODULE < order
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lastgood.journal import SUFFIX, Journal
from lastgood.process import companion
from lastgood.process.companion import READY, Companion

DONE = "done"
# What a switch does; its argument are the words that lastgood had sent before its end.
Action = Callable[[Sequence[str]], None]


class OrderRefused(Exception):
    """A switch cannot execute its order; the text is the reason."""


class Switch:
    """The parent's side of an armed switch."""

    def __init__(self, companion: Companion) -> None:
        self._companion = companion
        self.pid = companion.pid

    def report(self, word: str) -> None:
        """Send one word."""
        with suppress(OSError):  # it has already exited
            self._companion.write(word)

    def dismiss(self) -> None:
        """Order it to exit without acting."""
        self.report(DONE)


@contextmanager
def armed(module: str, order: str) -> Iterator[Switch]:
    """Start a switch for the length of a block; unless dismissed, it acts when the block ends. ``order``, one line, may
    hold passwords: it goes through a pipe. Raises NotReady when the switch cannot be started or refuses the order."""
    with companion.ready_companion(f"lastgood.deadman.{module}", order) as started:
        yield Switch(started)


def stand_by(prepare: Callable[[str], tuple[Action, float | None]]) -> int:
    """Run a switch in its own process and return its exit status. ``prepare`` gets the order and returns the action,
    with the time limit in seconds or None; it may raise OrderRefused."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    lines = _Input()
    try:
        act, seconds = prepare(lines.next(None))
    except OrderRefused as error:
        print(error, flush=True)
        return 1
    print(READY, flush=True)
    deadline = None if seconds is None else time.monotonic() + seconds
    words: list[str] = []
    while word := lines.next(deadline):
        if word == DONE:
            return 0
        words.append(word)
    act(words)
    return 0


def record(path: Path, event: str, **fields: Any) -> None:
    """Write an entry into the journal of the run, if it has one."""
    with suppress(OSError):
        if path.name.endswith(SUFFIX) and path.exists():
            Journal(path).write(event, **fields)


class _Input:
    """The input, line by line, with a time limit for each; unbuffered, so that select() works."""

    def __init__(self) -> None:
        self._buffer = b""

    def next(self, deadline: float | None) -> str:
        """The next line; empty when the other end of the pipe is closed, or none comes in time."""
        while b"\n" not in self._buffer:
            seconds = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([sys.stdin.fileno()], [], [], seconds)
            data = os.read(sys.stdin.fileno(), 65536) if ready else b""
            if not data:
                return ""
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode().strip()
