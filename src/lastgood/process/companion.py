"""A separate program of ours, controlled by lines on its stdin and stdout."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lastgood.process.run import CHUNK, english_environment

# The line by which our modules report that they have read their order.
READY = "ready"
START_SECONDS = 20.0


class NotReady(Exception):
    """A helper process did not start, or reported an error; the text is the reason."""


class Companion:
    """A running program that is controlled by lines."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._buffer = b""

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    def write(self, line: str) -> None:
        """Send one line. Raises OSError when the program has ended."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def read(self, seconds: float) -> str | None:
        """The next line, or the last output of a program that has ended (possibly empty); None when neither came in
        time."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        # poll, not select: a process with many connections has descriptors above 1023.
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        while b"\n" not in self._buffer:
            if not ready.poll(1000 * max(0.0, deadline - time.monotonic())):
                return None
            data = os.read(descriptor, CHUNK)
            if not data:
                break
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("utf-8", "replace").strip()


@contextmanager
def controlled(arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> Iterator[Companion]:
    """Run a program in a session of its own, where Ctrl+C does not reach it: only lastgood reacts to that. The end of
    the block kills a program that still runs. Its stderr is ours. Raises OSError when it cannot be started."""
    with subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=english_environment(environment),
        start_new_session=True,
    ) as process:
        try:
            yield Companion(process)
        finally:
            process.kill()  # no effect after its end


@contextmanager
def companion(
    arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, seconds: float = 5.0
) -> Iterator[Companion]:
    """Start a program in a session of its own, where neither Ctrl+C nor a hangup reaches it. It outlives lastgood: when
    lastgood ends, for whatever reason, its stdin is closed. Its stderr is part of its output.

    The end of the block closes its stdin and waits at most ``seconds`` for its end; it is never killed. Raises OSError
    when it cannot be started.
    """
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=english_environment(environment),
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield Companion(process)
    finally:
        with suppress(OSError):
            process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
        process.stdout.close()


def import_path() -> dict[str, str]:
    """The environment variable with which another Python process imports this lastgood, and the libraries that a
    single-file build unpacks next to it."""
    package = str(Path(__file__).parents[2])
    return {"PYTHONPATH": os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])}


@contextmanager
def ready_companion(module: str, order: str) -> Iterator[Companion]:
    """Start our own ``module`` as ``companion`` does, and wait until it has acknowledged ``order``, one line. Raises
    NotReady."""
    # -P: nothing is imported from the current folder.
    launch = companion([sys.executable, "-P", "-m", module], environment=import_path())
    with ExitStack() as stack:
        try:
            program = stack.enter_context(launch)
            program.write(order)
            answer = program.read(START_SECONDS)
        except OSError as error:
            raise NotReady(error.strerror or str(error)) from error
        if answer != READY:
            raise NotReady(answer or f"it did not answer within {START_SECONDS:g} s")
        yield program
