"""The memory that a program and its children hold together, sampled from outside while they run.

The samples come from Linux's ``smaps_rollup``: a page that several processes share counts once (each holds its share of
it: PSS). Without such a file there are no samples, and the peak stays 0.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

PROC = Path("/proc")
EVERY_SECONDS = 0.1
_PSS = b"\nPss:"


class Watch:
    """Sample the descendants of a process ten times a second during a ``with`` block.

    ``peak`` is the greatest sum of all samples, in bytes. The process itself is not counted.
    """

    def __init__(self, pid: int) -> None:
        self.peak = 0
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self.peak = max(self.peak, sum(map(held, descendants(self._pid))))


def descendants(pid: int) -> Iterator[int]:
    """The descendants of a process; none when it has ended."""
    try:
        for thread in (PROC / str(pid) / "task").iterdir():
            for child in (thread / "children").read_text().split():
                yield int(child)
                yield from descendants(int(child))
    except (FileNotFoundError, ProcessLookupError):
        return  # it ended during the sample


def held(pid: int) -> int:
    """The bytes that a process holds, its share of shared pages included; 0 when it has ended."""
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    at = text.find(_PSS)
    return 1024 * int(text[at + len(_PSS) :].split(maxsplit=1)[0]) if at >= 0 else 0
