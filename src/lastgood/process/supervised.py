"""A foreign program at work under our eyes: its lines as it prints them, its end with all that it has started.

Its children are known by a variable in their environment, wherever they went: a process group is left with one call.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from lastgood.process.leash import PATIENCE
from lastgood.process.run import TAIL_LINES, Ended, tell

LINE_CHARACTERS = 2000
# Colours and movements of a terminal; and titles of windows.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class Supervised:
    """A foreign program at work, all that it starts included. ``mark`` is the variable and the value in its environment
    by which its children are known again, wherever they went."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        mark: tuple[str, str],
        line: Callable[[str], None],
        folder: Path | None = None,
    ) -> None:
        """Starts it, in a process group of its own. ``environment`` is all that it gets, but for the mark. ``line`` is
        given each line that it prints on stdout or stderr, as it comes, in a thread. Raises OSError when it can't be
        started."""
        self._mark = mark
        tell(arguments, foreign=True)
        self._began = time.monotonic()
        self._had_to_be_ended = 0
        self._process = subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, mark[0]: mark[1]},
            cwd=folder,
            start_new_session=True,
        )
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._line = line
        self._reader = threading.Thread(target=self._read, name="lastgood-output", daemon=True)
        self._reader.start()

    @property
    def group(self) -> int:
        """Its process group."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for text in lines_of(output):
                self._tail.append(text)
                self._line(text)

    def wait(self, seconds: float, cancelled: Callable[[], bool]) -> Ended | None:
        """How it ended; None when it was ``cancelled``. After ``seconds`` (status None) and when cancelled, it is ended
        with all that it has started; when it ends by itself, only what is left of its process group is waited for, as
        long as that prints."""
        while self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
            over = time.monotonic() - self._began >= seconds
            if self._process.returncode is None and (cancelled() or over):
                self.end()
                return None if not over else self._ended(None)
        return self._ended(self._process.returncode)

    def _ended(self, status: int | None) -> Ended:
        seconds = self.seconds
        # What it left running may hold the pipe open for ever.
        self._reader.join(timeout=1.0)
        return Ended(status, self.tail, seconds)

    @property
    def seconds(self) -> float:
        """How long ago it was started."""
        return time.monotonic() - self._began

    @property
    def tail(self) -> str:
        """The end of what it has printed."""
        return "\n".join(self._tail)

    def end(self) -> int:
        """Ends it, and whatever it has started that is still there, and returns how many processes had to be, in all
        calls."""
        self._had_to_be_ended += end_all(self._process.pid, self._mark)
        self._process.wait()
        return self._had_to_be_ended


def lines_of(output: IO[bytes]) -> Iterator[str]:
    """The lines of what a program prints, as they come: without colours; of a line that is drawn again and again (a
    progress bar) what it showed in the end; very long ones cut. In constant memory."""
    kept = b""
    cut = False
    while chunk := os.read(output.fileno(), 1 << 16):
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            yield _line(kept + piece)
            kept, cut = b"", False
        if not cut:
            kept += rest
        if len(kept) > 4 * LINE_CHARACTERS:
            kept, cut = kept[: 4 * LINE_CHARACTERS], True
    if kept:
        yield _line(kept)


def _line(raw: bytes) -> str:
    text = _ESCAPES.sub("", raw.decode("utf-8", "replace")).rstrip("\r").rpartition("\r")[2].rstrip()
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]} …"


def marked_processes(mark: tuple[str, str]) -> list[int]:
    """The processes that have the variable in their environment, ourselves aside: those that a program started which
    was given it, wherever they went. Known where there is a /proc, and of our own user's processes."""
    wanted = "=".join(mark).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def end_all(group: int | None, mark: tuple[str, str], patience: float = PATIENCE) -> int:
    """Ends a process group and the processes that bear the mark: politely, and after ``patience`` seconds at once.
    Returns how many there were. May be called again."""
    asked: set[int] = set()
    deadline = time.monotonic() + patience
    while True:
        left = {pid for pid in marked_processes(mark) if _alive(pid)}
        there = group is not None and _group_alive(group)
        if not left and not there:
            return len(asked)
        at_once = time.monotonic() >= deadline
        if group is not None and there and (at_once or group not in asked):
            asked.add(group)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL if at_once else signal.SIGTERM)
        for pid in left:
            if at_once or pid not in asked:
                asked.add(pid)
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if at_once else signal.SIGTERM)
        if time.monotonic() >= deadline + patience:
            return len(asked)  # in an uninterruptible wait: nobody can end it now
        time.sleep(0.05)  # the end of a process that is not our child is announced to nobody


def _group_alive(group: int) -> bool:
    """Whether a process of the group is there that has not ended yet; zombies have."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    members = [stat for stat in map(_stat, Path("/proc").glob("[0-9]*")) if stat is not None]
    return not members or any(number == group and state not in "ZX" for state, number in members)


def _alive(pid: int) -> bool:
    found = _stat(Path(f"/proc/{pid}"))
    return found is not None and found[0] not in "ZX"


def _stat(folder: Path) -> tuple[str, int] | None:
    """A process's state and its group."""
    try:
        fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        return fields[0].decode(), int(fields[2])
    except (OSError, ValueError, IndexError):
        return None
