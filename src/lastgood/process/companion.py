"""A program of ours that runs beside us, and is told and asked in lines."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lastgood.process.run import CHUNK, english

# What those of our modules that run beside us say when they have read their order.
READY = "ready"
START_SECONDS = 20.0


class NotReady(Exception):
    """A module of ours could not be started beside us, or says why it can't do its work."""


class Companion:
    """A program that is told and asked in lines."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._heard = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def say(self, line: str) -> None:
        """Gives it one line. Raises OSError when it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, seconds: float) -> str | None:
        """Its next line, or the last words of one that has ended (nothing at all, if there are none); None when nothing
        of that came in time."""
        assert self._process.stdout is not None
        descriptor, deadline = self._process.stdout.fileno(), time.monotonic() + seconds
        # poll, not select: a process with many connections has descriptors above 1023.
        ready = select.poll()
        ready.register(descriptor, select.POLLIN)
        while b"\n" not in self._heard:
            if not ready.poll(1000 * max(0.0, deadline - time.monotonic())):
                return None
            more = os.read(descriptor, CHUNK)
            if not more:
                break
            self._heard += more
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode("utf-8", "replace").strip()


@contextmanager
def talking(arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None) -> Iterator[Companion]:
    """Runs a program to talk to, where Ctrl+C does not reach it: what that means is for us to say. It is killed when
    the block is left while it runs. What it says on stderr goes where ours does. Raises OSError when it can't be
    started."""
    with subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=english(environment),
        start_new_session=True,
    ) as process:
        try:
            yield Companion(process)
        finally:
            process.kill()  # does nothing to one that has ended


@contextmanager
def beside(
    arguments: Sequence[str | Path], *, environment: Mapping[str, str] | None = None, seconds: float = 5.0
) -> Iterator[Companion]:
    """Starts a program in a session of its own, where neither Ctrl+C nor the end of a terminal reaches it: it outlives
    us, and its stdin ends when we do, however we end. What it says on stderr is heard too.

    Leaving the block ends its stdin and waits ``seconds`` for it to end; it is never killed. Raises OSError when it
    can't be started.
    """
    process = subprocess.Popen(
        [str(a) for a in arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=english(environment),
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


@contextmanager
def standing_by(module: str, order: str) -> Iterator[Companion]:
    """Our own ``module``, begun as by ``beside`` and ready: it was given ``order``, one line, and has said so. Raises
    NotReady."""
    package = str(Path(__file__).parents[2])  # the very lastgood that runs here, wherever it was imported from
    path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    # -P: what lies in the current folder is not imported.
    started = beside([sys.executable, "-P", "-m", module], environment={"PYTHONPATH": path})
    with ExitStack() as stack:
        try:
            companion = stack.enter_context(started)
            companion.say(order)
            said = companion.hear(START_SECONDS)
        except OSError as error:
            raise NotReady(error.strerror or str(error)) from error
        if said != READY:
            raise NotReady(said or f"it did not answer within {START_SECONDS:g} s")
        yield companion
