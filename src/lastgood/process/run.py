"""The one way to run another program: an argument list, no shell, a time limit, the tail of what it said."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lastgood.process.leashed import Leashed

TAIL_LINES = 40
CHUNK = 1 << 18
KEPT_OUTPUT = 1 << 14
MOST_OUTPUT = 1 << 24


@dataclass(frozen=True, slots=True)
class Started:
    """A program that was started; ``foreign``: somebody else's, a hook."""

    arguments: tuple[str, ...]
    foreign: bool = False


_listeners: list[Callable[[Started], None]] = []


@contextmanager
def listening(hear: Callable[[Started], None]) -> Iterator[None]:
    """For the length of a ``with`` block ``hear`` is told, from any thread, of each program that is started. It must be
    quick and must not raise."""
    _listeners.append(hear)
    try:
        yield
    finally:
        _listeners.remove(hear)


def tell(arguments: Sequence[str | Path], *, foreign: bool = False) -> None:
    """A program is about to be started: who listens is told."""
    started = Started(tuple(str(each) for each in arguments), foreign)
    for hear in tuple(_listeners):
        hear(started)


class ChildFailed(Exception):
    """A program ended with a status other than 0, was killed, or ran out of time. ``tail`` is the end of stderr."""

    def __init__(self, program: str, status: int | None, tail: str) -> None:
        why = "ran out of time" if status is None else f"ended with status {status}"
        super().__init__(f"{program} {why}" + (f": {_telling(tail)}" if tail.strip() else ""))
        self.program = program
        self.status = status
        self.tail = tail


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program printed: ``output`` is its whole stdout, ``tail`` the last lines of its stderr."""

    output: bytes
    tail: str


@dataclass(frozen=True, slots=True)
class Ended:
    """How a foreign program ended: ``status`` is None when it ran out of time and was killed. ``output`` is the end of
    what it and its children had printed until then, on stdout and stderr together."""

    status: int | None
    output: str
    seconds: float


def english(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Our environment and ``extra``, for a program that is to speak English: nowhere are messages matched, but people
    paste them into searches."""
    return {**os.environ, "LC_ALL": "C", **(extra or {})}


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Completed:
    """Runs a program to its end and returns its output, which must fit in memory.

    ``environment`` is added to ours (passwords go there, never into ``arguments``). ``cancelled`` is asked four
    times a second; when it turns true the program is terminated. Raises ChildFailed, or OSError when the program
    can't be started.
    """
    program = Path(arguments[0]).name
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=english(environment),
        process_group=0,  # Ctrl+C and Ctrl+Z are for us, who end it
    )
    tell(arguments)
    waited = 0.0
    try:
        while True:
            try:
                output, said = process.communicate(timeout=0.25)
                break
            except subprocess.TimeoutExpired:
                waited += 0.25
                if cancelled() or (seconds is not None and waited >= seconds):
                    process.terminate()
                    try:
                        _, said = process.communicate(timeout=5)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        _, said = process.communicate()
                    raise ChildFailed(program, None, _tail(said)) from None
    except BaseException:
        if process.poll() is None:
            process.kill()
            process.communicate()
        raise
    if process.returncode != 0:
        raise ChildFailed(program, process.returncode, _tail(said))
    return Completed(output, _tail(said))


def run_foreign(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    seconds: float,
    folder: Path | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    holding: int | None = None,
) -> Ended | None:
    """Runs a program of somebody else's, in ``folder``, and returns how it ended; None when it was ``cancelled``.

    After ``seconds`` it is ended with all its children, and so it is when we end, however that comes: it is started by
    a ``leash``, which holds the descriptor ``holding`` open (a lock) until the program has ended. What it leaves
    running when it ends by itself goes on: to start a service is what some are for. So its output goes to a nameless
    file and not through a pipe, whose closing would end such a service later. Raises OSError when it can't be started.
    """
    with tempfile.TemporaryFile() as output:
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
        began = time.monotonic()
        said = b""
        with Leashed(arguments, {**os.environ, **environment}, folder, output.fileno(), holding) as program:
            tell(arguments, foreign=True)
            ended_by_us = False
            while not (ended := program.ended(0.1)) and not ended_by_us:
                if os.fstat(output.fileno()).st_size > MOST_OUTPUT:
                    said = _end_of(output)
                    output.truncate(0)  # what is printed in this very moment is lost; what comes next is appended
                ended_by_us = cancelled() or time.monotonic() - began >= seconds
        text = (said + _end_of(output))[-KEPT_OUTPUT:].decode("utf-8", "replace")
        if ended_by_us and not ended and cancelled():
            return None
        return Ended(program.status if ended else None, text, time.monotonic() - began)


def _end_of(file: IO[bytes]) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), KEPT_OUTPUT, max(0, size - KEPT_OUTPUT))


@contextmanager
def stream(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | Iterable[bytes] = subprocess.DEVNULL,
    stuck_seconds: float | None = None,
) -> Iterator[Iterator[bytes]]:
    """Runs a program and gives its stdout in chunks of at most 256 KiB, in constant memory.

    ``stdin`` is what it reads: a descriptor, which stays the caller's to close, or the content itself, which is taken
    in another thread, to its end even when the program has enough; an error that it raises ends the program and
    comes out of the iterator. When the output is read to its end, a status other than 0 raises ChildFailed from the
    iterator. Leaving the block early terminates the program.

    ``stuck_seconds``: a program that computes for so long without reading or writing anything is killed, and
    ChildFailed has no status. Known on Linux only; elsewhere it may compute for ever.
    """
    program = Path(arguments[0]).name
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=stdin if isinstance(stdin, int) else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=english(environment),
        process_group=0,  # Ctrl+C and Ctrl+Z are for us, who end it
    )
    tell(arguments)
    assert process.stdout is not None and process.stderr is not None
    said: deque[bytes] = deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=_drain, args=(process.stderr, said), daemon=True)
    reader.start()
    feeder = None if isinstance(stdin, int) else _Feeder(process, stdin)
    stdout: IO[bytes] = process.stdout
    written = 0

    def progress() -> tuple[int, int]:
        return written, feeder.fed if feeder is not None else _position(stdin)

    watch = None if stuck_seconds is None else _Watch(process, progress, stuck_seconds)

    def chunks() -> Iterator[bytes]:
        nonlocal written
        while chunk := stdout.read(CHUNK):
            written += len(chunk)
            yield chunk
        status = process.wait()
        reader.join()
        if watch is not None and watch.stuck:
            raise ChildFailed(program, None, _tail(b"".join(said)))
        if feeder is not None:
            feeder.check(to_its_end=status == 0)
        if status != 0:
            raise ChildFailed(program, status, _tail(b"".join(said)))

    try:
        yield chunks()
    finally:
        if watch is not None:
            watch.stop()
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join()
        if feeder is not None:
            feeder.stop()
        stdout.close()
        process.stderr.close()


def _position(stdin: int | Iterable[bytes]) -> int:
    """How far the program has read in a file that it was given; 0 where that can't be known."""
    try:
        return os.lseek(stdin, 0, os.SEEK_CUR) if isinstance(stdin, int) and stdin >= 0 else 0
    except OSError:
        return 0


def _computed(pid: int) -> float | None:
    """For how many seconds of processor time a program has run; None where there is no /proc."""
    try:
        # The second field is a name in parentheses, which may hold blanks and parentheses.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    except OSError:
        return None


class _Watch:
    """A thread that kills a program which turns in circles. One that waits (for us, say) does not compute."""

    def __init__(
        self, process: subprocess.Popen[bytes], progress: Callable[[], tuple[int, int]], seconds: float
    ) -> None:
        self.stuck = False
        self._process = process
        self._progress = progress
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        before = self._progress()
        computed = _computed(self._process.pid)
        while computed is not None and not self._over.wait(self._seconds / 4):
            now, after = self._progress(), _computed(self._process.pid)
            if now != before or after is None:
                before, computed = now, after
            elif after - computed >= self._seconds:
                self.stuck = True
                self._process.kill()
                return

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class _Feeder:
    """A thread that writes ``content`` to a program's stdin."""

    def __init__(self, process: subprocess.Popen[bytes], content: Iterable[bytes]) -> None:
        self._process = process
        self._content = content
        self._stopping = False
        self.fed = 0
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        assert self._process.stdin is not None
        pipe: IO[bytes] | None = self._process.stdin
        try:
            for piece in self._content:
                if self._stopping:
                    break
                if pipe is not None:
                    try:
                        pipe.write(piece)
                        self.fed += len(piece)
                    except BrokenPipeError:
                        pipe = None  # it has enough, or has failed and says so itself
        except BaseException as error:
            self._failed = error
            # It may wait for ever for what does not come.
            self._process.kill()
        finally:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def check(self, *, to_its_end: bool) -> None:
        """Raises what went wrong in making the content; ``to_its_end``: also of what is not made yet."""
        self._stopping = not to_its_end
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()


def _drain(source: IO[bytes], into: deque[bytes]) -> None:
    for line in source:
        into.append(line)


def _telling(tail: str) -> str:
    """The line that says what went wrong: PostgreSQL's programs put details and the query behind their error."""
    lines = tail.strip().splitlines()
    return next((line for line in lines if ": error: " in line), lines[-1])


def _tail(said: bytes) -> str:
    return "\n".join(said.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


def in_the_foreground(arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> int:
    """Gives the terminal to a program, a shell for one, until it ends; returns its status as a shell would tell it.

    ``environment`` is added to ours. Ctrl+C is its own affair. Raises OSError when it can't be started.
    """
    # A handler, since a program would inherit that a signal is ignored.
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        process = subprocess.Popen(list(arguments), env={**os.environ, **environment}, cwd=folder)
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    finally:
        signal.signal(signal.SIGINT, before)
    return status if status >= 0 else 128 - status
