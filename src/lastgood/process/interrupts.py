"""Ctrl+C and SIGTERM: the first makes the run revert itself, the second leaves everything to `resume` or `abort`."""

from __future__ import annotations

import _thread
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Seconds in which a reaction should have ended; its thread goes on in any case.
REACTION_SECONDS = 0.5


class StopRequest(threading.Event):
    """A stop request. The signal handler itself marks it, so that the next check sees the interrupt however
    late the reaction's thread starts; to set the event, it would have to wait for a lock."""

    def __init__(self) -> None:
        super().__init__()
        self._marked = False

    def mark(self) -> None:
        self._marked = True

    def is_set(self) -> bool:
        return self._marked or super().is_set()


@contextmanager
def stop_on_signal(stop: StopRequest) -> Iterator[None]:
    """While the block runs, the first signal sets ``stop``; see ``calling``."""
    with on_signal(stop.set, mark=stop.mark):
        yield


@contextmanager
def on_signal(
    first: Callable[[], None],
    *,
    mark: Callable[[], None] = lambda: None,
    before: Sequence[Callable[[], None]] = (),
    after: Sequence[Callable[[], None]] = (),
    suspended: Callable[[], None] | None = None,
) -> Iterator[None]:
    """While the block runs, the first signal calls ``mark`` at once, which may only set a variable, and ``first`` in a
    thread (a handler must not wait for a server or a lock); the second raises KeyboardInterrupt in the main thread.
    No effect outside the main thread.

    A cancelled pipeline sends several signals within seconds, and the reaction to one must not stop at the next: the
    functions of ``before`` are called, one per signal, before any counts as the first; those of ``after`` before
    KeyboardInterrupt is raised.

    ``suspended``: Ctrl+Z does not suspend the process, since other sessions wait for it, but calls this in a thread.
    Writing to a terminal from the background does not suspend it either.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    reactions = (*before, first, *after)
    completed: list[int] = []

    def react(reaction: Callable[[], None]) -> None:
        reaction()
        completed.append(1)

    def handler(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > len(reactions):
            raise KeyboardInterrupt
        if len(received) == len(before) + 1:
            mark()
        # Not a threading.Thread, whose start waits for the thread: the next signal would raise in the middle of that
        # wait and leave its lock in a state that is an error of its own.
        _thread.start_new_thread(react, (reactions[len(received) - 1],))

    handlers: dict[signal.Signals, Any] = dict.fromkeys(_handled(), handler)
    if suspended is not None:
        reaction = suspended

        def refuse(number: int, frame: FrameType | None) -> None:
            _thread.start_new_thread(reaction, ())

        handlers |= {signal.SIGTSTP: refuse, signal.SIGTTOU: signal.SIG_IGN, signal.SIGTTIN: signal.SIG_IGN}
    with _handling(handlers):
        try:
            yield
        finally:
            # Wait for the output of the reactions first.
            limit = time.monotonic() + REACTION_SECONDS
            while len(completed) < len(received[: len(reactions)]) and time.monotonic() < limit:
                time.sleep(0.005)


@contextmanager
def raise_on_signal() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl+C does, so that cleanup runs.
    ``calling`` inside it takes precedence. No effect outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handling(dict.fromkeys(_handled(), signal.default_int_handler)):
        yield


def _handled() -> list[signal.Signals]:
    """The signals to handle, without a hangup that the parent process has set to be ignored (nohup)."""
    return [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
