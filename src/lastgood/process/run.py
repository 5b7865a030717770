"""The one way to run another program: an argument list, no shell, a time limit, the tail of its output."""

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

from lastgood.process.guarded import GuardedProgram

TAIL_LINES = 40
CHUNK = 1 << 18
OUTPUT_TAIL_BYTES = 1 << 14
MOST_OUTPUT_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class ProgramStart:
    """A program that was started; ``foreign``: a program of the user, such as a hook."""

    arguments: tuple[str, ...]
    foreign: bool = False


_listeners: list[Callable[[ProgramStart], None]] = []


@contextmanager
def listening(listener: Callable[[ProgramStart], None]) -> Iterator[None]:
    """For the length of a ``with`` block, call ``listener`` in any thread for each program that is started. It must be
    fast and must not raise."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def announce(arguments: Sequence[str | Path], *, foreign: bool = False) -> None:
    """Announce to all listeners that a program is started."""
    started = ProgramStart(tuple(str(each) for each in arguments), foreign)
    for listener in tuple(_listeners):
        listener(started)


class ChildFailed(Exception):
    """A program exited with a status other than 0, was killed, or exceeded its time limit. ``tail`` is the end of
    stderr."""

    def __init__(self, program: str, status: int | None, tail: str) -> None:
        why = "exceeded its time limit" if status is None else f"exited with status {status}"
        super().__init__(f"{program} {why}" + (f": {_error_line(tail)}" if tail.strip() else ""))
        self.program = program
        self.status = status
        self.tail = tail


@dataclass(frozen=True, slots=True)
class ProgramOutput:
    """The output of a program: ``output`` is its whole stdout, ``tail`` the last lines of its stderr."""

    output: bytes
    tail: str


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """The end of a foreign program: ``status`` is None when it exceeded its time limit and was killed. ``output`` is
    the end of its output and its children's until then, stdout and stderr together."""

    status: int | None
    output: str
    seconds: float


def english_environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    """Our environment and ``extra``, with English messages: lastgood never matches messages, but people paste them into
    searches."""
    return {**os.environ, "LC_ALL": "C", **(extra or {})}


def run(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> ProgramOutput:
    """Run a program to its end and return its output, which must fit in memory.

    ``environment`` is added to ours (for passwords, which must not be in ``arguments``). ``cancelled`` is called four
    times a second; when it returns true the program is terminated. Raises ChildFailed, or OSError when the program
    cannot be started.
    """
    program = Path(arguments[0]).name
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=english_environment(environment),
        process_group=0,  # Ctrl+C and Ctrl+Z reach only lastgood, which ends it
    )
    announce(arguments)
    waited = 0.0
    try:
        while True:
            try:
                output, errors = process.communicate(timeout=0.25)
                break
            except subprocess.TimeoutExpired:
                waited += 0.25
                if cancelled() or (seconds is not None and waited >= seconds):
                    process.terminate()
                    try:
                        _, errors = process.communicate(timeout=5)
                    except subprocess.TimeoutExpired:
                        process.kill()
                        _, errors = process.communicate()
                    raise ChildFailed(program, None, _tail(errors)) from None
    except BaseException:
        if process.poll() is None:
            process.kill()
            process.communicate()
        raise
    if process.returncode != 0:
        raise ChildFailed(program, process.returncode, _tail(errors))
    return ProgramOutput(output, _tail(errors))


def run_foreign(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    seconds: float,
    folder: Path | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    lock: int | None = None,
) -> ProgramEnd | None:
    """Run a foreign program in ``folder`` and return how it ended; None when it was ``cancelled``.

    After ``seconds`` it is ended with all its children, and also when lastgood ends for whatever reason: a ``guard``
    starts it, and holds the descriptor ``lock`` open (a lock) until the program has ended. Children that it leaves
    behind when it ends by itself continue: some hooks start a service. So its output goes to an unnamed file and not
    through a pipe, whose closing would end such a service later. Raises OSError when it cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        fcntl.fcntl(output, fcntl.F_SETFL, os.O_APPEND)
        began = time.monotonic()
        dropped = b""
        with GuardedProgram(arguments, {**os.environ, **environment}, folder, output.fileno(), lock) as program:
            announce(arguments, foreign=True)
            ended_by_us = False
            while not (ended := program.ended(0.1)) and not ended_by_us:
                if os.fstat(output.fileno()).st_size > MOST_OUTPUT_BYTES:
                    dropped = _last_bytes(output)
                    output.truncate(0)  # output of this very moment is lost; later output is appended
                ended_by_us = cancelled() or time.monotonic() - began >= seconds
        text = (dropped + _last_bytes(output))[-OUTPUT_TAIL_BYTES:].decode("utf-8", "replace")
        if ended_by_us and not ended and cancelled():
            return None
        return ProgramEnd(program.status if ended else None, text, time.monotonic() - began)


def _last_bytes(file: IO[bytes]) -> bytes:
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), OUTPUT_TAIL_BYTES, max(0, size - OUTPUT_TAIL_BYTES))


@contextmanager
def stream(
    arguments: Sequence[str | Path],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | Iterable[bytes] = subprocess.DEVNULL,
    stuck_seconds: float | None = None,
) -> Iterator[Iterator[bytes]]:
    """Run a program and yield its stdout in chunks of at most 256 KiB, in constant memory.

    ``stdin`` is its input: a descriptor, which the caller closes, or the content itself, which is consumed in another
    thread, to its end even if the program stops reading; an error of the content ends the program and is raised from
    the iterator. After the end of the output, a status other than 0 raises ChildFailed from the iterator. Leaving the
    block early terminates the program.

    ``stuck_seconds``: a program that uses this much processor time without reading or writing is killed, and
    ChildFailed has no status. Only on Linux; elsewhere it may run for ever.
    """
    program = Path(arguments[0]).name
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=stdin if isinstance(stdin, int) else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=english_environment(environment),
        process_group=0,  # Ctrl+C and Ctrl+Z reach only lastgood, which ends it
    )
    announce(arguments)
    assert process.stdout is not None and process.stderr is not None
    errors: deque[bytes] = deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=_drain, args=(process.stderr, errors), daemon=True)
    reader.start()
    feeder = None if isinstance(stdin, int) else _Feeder(process, stdin)
    stdout: IO[bytes] = process.stdout
    written = 0

    def progress() -> tuple[int, int]:
        return written, feeder.fed if feeder is not None else _position(stdin)

    watch = None if stuck_seconds is None else _LoopWatch(process, progress, stuck_seconds)

    def chunks() -> Iterator[bytes]:
        nonlocal written
        while chunk := stdout.read(CHUNK):
            written += len(chunk)
            yield chunk
        status = process.wait()
        reader.join()
        if watch is not None and watch.stuck:
            raise ChildFailed(program, None, _tail(b"".join(errors)))
        if feeder is not None:
            feeder.check(to_its_end=status == 0)
        if status != 0:
            raise ChildFailed(program, status, _tail(b"".join(errors)))

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
    """The position of the program in its input file; 0 if unknown."""
    try:
        return os.lseek(stdin, 0, os.SEEK_CUR) if isinstance(stdin, int) and stdin >= 0 else 0
    except OSError:
        return 0


def _processor_seconds(pid: int) -> float | None:
    """The processor time that a program has used, in seconds; None if unknown."""
    import psutil  # here, because few commands run a program for so long

    try:
        used = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return None
    return float(used.user + used.system)


class _LoopWatch:
    """A thread that kills a program in an endless loop. A program that waits (for us, say) uses no processor time."""

    def __init__(
        self, process: subprocess.Popen[bytes], progress: Callable[[], tuple[int, int]], seconds: float
    ) -> None:
        self.stuck = False
        self._process = process
        self._progress = progress
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._monitor, daemon=True)
        self._thread.start()

    def _monitor(self) -> None:
        before = self._progress()
        computed = _processor_seconds(self._process.pid)
        while computed is not None and not self._over.wait(self._seconds / 4):
            position, after = self._progress(), _processor_seconds(self._process.pid)
            if position != before or after is None:
                before, computed = position, after
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
                        pipe = None  # it stopped reading, or failed with an error of its own
        except BaseException as error:
            self._failed = error
            # It may wait for ever for the missing input.
            self._process.kill()
        finally:
            with suppress(BrokenPipeError):
                self._process.stdin.close()

    def check(self, *, to_its_end: bool) -> None:
        """Raise the error of the content, if any; with ``to_its_end`` consume the rest first."""
        self._stopping = not to_its_end
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()


def _drain(source: IO[bytes], lines: deque[bytes]) -> None:
    for line in source:
        lines.append(line)


def _error_line(tail: str) -> str:
    """The line with the error: PostgreSQL's programs print details and the query after it."""
    lines = tail.strip().splitlines()
    return next((line for line in lines if ": error: " in line), lines[-1])


def _tail(output: bytes) -> str:
    return "\n".join(output.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])


def run_in_foreground(arguments: Sequence[str], *, environment: Mapping[str, str], folder: Path) -> int:
    """Give the terminal to a program, such as a shell, until it ends; return its status as a shell reports it.

    ``environment`` is added to ours. Ctrl+C reaches only the program. Raises OSError when it cannot be started.
    """
    # A handler, since the program would inherit an ignored signal.
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
