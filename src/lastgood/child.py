"""The one way to run another program: an argument list, no shell, a time limit, the tail of what it said."""

from __future__ import annotations

import os
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TAIL_LINES = 40
CHUNK = 1 << 18


class ChildFailed(Exception):
    """A program ended with a status other than 0, was killed, or ran out of time. ``tail`` is the end of stderr."""

    def __init__(self, program: str, status: int | None, tail: str) -> None:
        why = "ran out of time" if status is None else f"ended with status {status}"
        super().__init__(f"{program} {why}" + (f": {tail.strip().splitlines()[-1]}" if tail.strip() else ""))
        self.program = program
        self.status = status
        self.tail = tail


@dataclass(frozen=True, slots=True)
class Completed:
    """What a program printed: ``output`` is its whole stdout, ``tail`` the last lines of its stderr."""

    output: bytes
    tail: str


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    # Messages are matched nowhere, but people paste them into searches: English, always.
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
        env=_environment(environment),
    )
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


@contextmanager
def stream(
    arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, stdin: int = subprocess.DEVNULL
) -> Iterator[Iterator[bytes]]:
    """Runs a program and gives its stdout in chunks of at most 256 KiB, in constant memory.

    ``stdin`` is a descriptor for it to read from, which stays the caller's to close (default: nothing to read).
    When the output is read to its end, a status other than 0 raises ChildFailed from the iterator. Leaving the
    block early terminates the program.
    """
    program = Path(arguments[0]).name
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(environment),
    )
    assert process.stdout is not None and process.stderr is not None
    said: deque[bytes] = deque(maxlen=TAIL_LINES)
    reader = threading.Thread(target=_drain, args=(process.stderr, said), daemon=True)
    reader.start()
    stdout: IO[bytes] = process.stdout

    def chunks() -> Iterator[bytes]:
        while chunk := stdout.read(CHUNK):
            yield chunk
        status = process.wait()
        reader.join()
        if status != 0:
            raise ChildFailed(program, status, _tail(b"".join(said)))

    try:
        yield chunks()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        reader.join()
        stdout.close()
        process.stderr.close()


def _drain(source: IO[bytes], into: deque[bytes]) -> None:
    for line in source:
        into.append(line)


def _tail(said: bytes) -> str:
    return "\n".join(said.decode("utf-8", "replace").splitlines()[-TAIL_LINES:])
