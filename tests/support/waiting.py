"""The one way in which tests wait: for a condition, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(condition: Callable[[], bool], what: str = "what the test waits for", *, seconds: float = 60.0) -> None:
    """Asks until it holds, since nothing announces it; fails when it does not within the time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.02)


class Clock:
    """The time module, with another ``sleep``."""

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.monotonic, self.sleep = time.monotonic, sleep
