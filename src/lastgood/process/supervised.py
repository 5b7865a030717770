"""A foreign program under supervision: its lines as it prints them, and its end with all its child processes.

A variable in their environment identifies its children: a process can leave its group with one call.
"""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

from lastgood.process.guard import PATIENCE
from lastgood.process.run import TAIL_LINES, ProgramEnd, announce

LINE_CHARACTERS = 2000
# The maximum time for reading the output of a program after its end; the output is already in the pipe.
DRAIN_SECONDS = 60.0
# Colours and cursor movements of a terminal, and titles of windows.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


class SupervisedProgram:
    """A running foreign program, with all its child processes. ``mark`` is the variable and the value in its
    environment that identify its children."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        mark: tuple[str, str],
        line: Callable[[str], None],
        folder: Path | None = None,
    ) -> None:
        """Start it, in a process group of its own. ``environment`` is its whole environment, except for the mark.
        ``line`` is called in a thread with each line on stdout or stderr, as it is printed. Raises OSError when it
        cannot be started."""
        self._mark = mark
        announce(arguments, foreign=True)
        self._began = time.monotonic()
        self._ended_processes = 0
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
        self._busy = False  # a chunk that was taken out of the pipe is being handled
        self._reader = threading.Thread(target=self._read, name="lastgood-output", daemon=True)
        self._reader.start()

    @property
    def group(self) -> int:
        """Its process group."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for text in lines_of(self._chunks(output)):
                self._tail.append(text)
                self._line(text)

    def _chunks(self, output: IO[bytes]) -> Iterator[bytes]:
        ready = select.poll()
        ready.register(output, select.POLLIN)
        while ready.poll():
            self._busy = True
            if not (chunk := os.read(output.fileno(), 1 << 16)):
                return
            yield chunk
            self._busy = False

    def wait(self, seconds: float, cancelled: Callable[[], bool]) -> ProgramEnd | None:
        """Wait for its end and return it; None when it was ``cancelled``. After ``seconds`` (status None) and when
        cancelled, it is ended with all its child processes; when it ends by itself, its remaining output is read."""
        while self._process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.1)
            over = time.monotonic() - self._began >= seconds
            if self._process.returncode is None and (cancelled() or over):
                self.end()
                return None if not over else self._ended(None)
        return self._ended(self._process.returncode)

    def _ended(self, status: int | None) -> ProgramEnd:
        seconds = self.seconds
        self._drain()
        return ProgramEnd(status, self.tail, seconds)

    def _drain(self) -> None:
        """Wait until the lines that it printed before its end are handled, because the caller interprets its status by
        them; not until the end of the pipe, which a running child may hold open for ever."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._reader.is_alive() and time.monotonic() < deadline:
            self._reader.join(timeout=0.05)
            # In this order: what left the pipe in between is being handled.
            if not self._in_pipe() and not self._busy:
                return

    def _in_pipe(self) -> int:
        """The bytes that were printed and not yet read."""
        assert self._process.stdout is not None
        try:
            (count,) = struct.unpack("i", fcntl.ioctl(self._process.stdout, termios.FIONREAD, bytes(4)))
        except (OSError, ValueError):  # the reader has closed it
            return 0
        return int(count)

    @property
    def seconds(self) -> float:
        """The seconds since its start."""
        return time.monotonic() - self._began

    @property
    def tail(self) -> str:
        """The end of its output."""
        return "\n".join(self._tail)

    def end(self) -> int:
        """End it and all its remaining child processes, and return the number of processes that had to be ended, over
        all calls."""
        self._ended_processes += end_all(self._process.pid, self._mark)
        self._process.wait()
        return self._ended_processes


def lines_of(chunks: Iterable[bytes]) -> Iterator[str]:
    """The lines of a program's output, which comes in ``chunks``, as they are printed: without colours; of a line that
    is drawn repeatedly (a progress bar) only its final state; very long ones cut. In constant memory."""
    unfinished = b""
    cut = False
    for chunk in chunks:
        *complete, last = chunk.split(b"\n")
        for piece in complete:
            yield _line(unfinished + piece)
            unfinished, cut = b"", False
        if not cut:
            unfinished += last
        if len(unfinished) > 4 * LINE_CHARACTERS:
            unfinished, cut = unfinished[: 4 * LINE_CHARACTERS], True
    if unfinished:
        yield _line(unfinished)


def _line(raw: bytes) -> str:
    text = _ESCAPES.sub("", raw.decode("utf-8", "replace")).rstrip("\r").rpartition("\r")[2].rstrip()
    return text if len(text) <= LINE_CHARACTERS else f"{text[:LINE_CHARACTERS]} …"


def marked_processes(mark: tuple[str, str]) -> list[int]:
    """The other processes that have the variable in their environment: the descendants of a program that was started
    with it. Covers only processes of this user."""
    name, value = mark
    processes = []
    for process in psutil.process_iter():
        # It may have ended, or belong to another user.
        with suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get(name) == value and _runs(process):
                processes.append(process.pid)
    return processes


def end_all(group: int | None, mark: tuple[str, str], patience: float = PATIENCE) -> int:
    """End a process group and the processes with the mark: by SIGTERM, and after ``patience`` seconds by SIGKILL.
    Returns their number. May be called again."""
    signalled: set[int] = set()
    deadline = time.monotonic() + patience
    while True:
        remaining = set(marked_processes(mark))
        group_runs = group is not None and _group_alive(group)
        if not remaining and not group_runs:
            return len(signalled)
        at_once = time.monotonic() >= deadline
        if group is not None and group_runs and (at_once or group not in signalled):
            signalled.add(group)
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL if at_once else signal.SIGTERM)
        for pid in remaining:
            if at_once or pid not in signalled:
                signalled.add(pid)
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL if at_once else signal.SIGTERM)
        if time.monotonic() >= deadline + patience:
            return len(signalled)  # in an uninterruptible wait: it cannot be ended now
        time.sleep(0.05)  # no event announces the end of a process that is not our child


def _group_alive(group: int) -> bool:
    """Whether the group has a running process; zombies do not count."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group:
                members.append(_runs(process))
    return not members or any(members)


def _runs(process: psutil.Process) -> bool:
    return process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
