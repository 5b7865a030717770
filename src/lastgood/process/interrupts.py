"""Ctrl+C and SIGTERM: the first walks back, the second leaves everything to `resume` or `abort`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def calling(
    first: Callable[[], None],
    *,
    mark: Callable[[], None] = lambda: None,
    before: Sequence[Callable[[], None]] = (),
    after: Sequence[Callable[[], None]] = (),
    suspended: Callable[[], None] | None = None,
) -> Iterator[None]:
    """While the block runs, the first signal calls ``mark`` at once, which may do no more than set a variable, and
    ``first`` in a thread (a handler must not wait for a server or a lock); the second raises KeyboardInterrupt in the
    main thread. Does nothing outside the main thread.

    A pipeline that is cancelled sends several signals within seconds, and what was begun because of one must not stop
    at the next: those of ``before`` are called, one a signal, before any counts as the first; those of ``after``
    before KeyboardInterrupt is raised.

    ``suspended``: Ctrl+Z does not suspend the process, since others wait for it; it calls this in a thread. Neither
    does writing to a terminal from the background.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    answers = (*before, first, *after)

    def handler(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if len(came) > len(answers):
            raise KeyboardInterrupt
        if len(came) == len(before) + 1:
            mark()
        threading.Thread(target=answers[len(came) - 1], name="lastgood-interrupt", daemon=True).start()

    handlers: dict[signal.Signals, Any] = dict.fromkeys(_heard(), handler)
    if suspended is not None:
        answer = suspended

        def refuse(number: int, frame: FrameType | None) -> None:
            threading.Thread(target=answer, name="lastgood-suspend", daemon=True).start()

        handlers |= {signal.SIGTSTP: refuse, signal.SIGTTOU: signal.SIG_IGN, signal.SIGTTIN: signal.SIG_IGN}
    with _handling(handlers):
        yield


@contextmanager
def raising() -> Iterator[None]:
    """While the block runs, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl+C does, so that what must be cleaned up
    is. ``calling`` inside it takes its place. Does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handling(dict.fromkeys(_heard(), signal.default_int_handler)):
        yield


def _heard() -> list[signal.Signals]:
    """The signals that end us. A hangup that the caller has us ignore (nohup) is none of them."""
    return [each for each in SIGNALS if each != signal.SIGHUP or signal.getsignal(each) != signal.SIG_IGN]


@contextmanager
def _handling(handlers: Mapping[signal.Signals, Any]) -> Iterator[None]:
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
