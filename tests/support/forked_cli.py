"""lastgood as a process of its own, without the time that it takes to load everything: half a second each, hundreds of
times.

A helper program has loaded the command line and does nothing but fork: what it forks is a process like any
other, with its own number, environment, folder, files and end. A signal ends it, Ctrl+C reaches it, its memory is its
own. What is not shown by it is the start itself; the tests that are about that start the real program
(tests/cli/test_main.py, test_help.py, test_terminal.py, the demo).
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("forking_program.py")


class Process:
    """As much of ``subprocess.Popen(…, text=True)`` as tests need. ``returncode`` is set once it was waited for."""

    def __init__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        terminal: int | None = None,
        session: bool = False,
    ) -> None:
        """Starts ``lastgood ARGUMENTS``. ``terminal`` is its stdin, stdout and stderr; without one it has pipes.
        ``session``: it leads a session of its own."""
        self.returncode: int | None = None
        self.stdout: IO[str] | None = None
        self.stderr: IO[str] | None = None
        with Path(os.devnull).open() as nothing:
            if terminal is not None:
                theirs = [terminal] * 3
            else:
                out, to_out = os.pipe()
                err, to_err = os.pipe()
                theirs = [nothing.fileno(), to_out, to_err]
                self.stdout, self.stderr = os.fdopen(out, encoding="utf-8"), os.fdopen(err, encoding="utf-8")
            self._end, far = socket.socketpair()
            order = {
                "arguments": arguments,
                "environment": dict(os.environ if environment is None else environment),
                "folder": str(folder or Path.cwd()),
                "session": session,
            }
            _the_program().order(order, [far.fileno(), *theirs])
            far.close()
            if terminal is None:
                os.close(to_out)
                os.close(to_err)
        self._answers = self._end.makefile("r")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """Its exit status, when it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, when it ends. Raises TimeoutExpired."""
        if self.returncode is None:
            # poll, not a timeout of the socket: after one, its file could not be read any more.
            if timeout is not None and not _readable(self._end, timeout):
                raise subprocess.TimeoutExpired("lastgood", timeout)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._end.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Return its stdout and stderr from now on, to its end. Raises TimeoutExpired."""
        assert self.stdout is not None and self.stderr is not None
        output = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            with stream:
                output[number] = stream.read()

        readers = [
            threading.Thread(target=read, args=each, daemon=True) for each in enumerate((self.stdout, self.stderr))
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("lastgood", timeout or 0.0)
        self.wait(timeout)
        return output[0], output[1]

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def run(
    *arguments: str, environment: Mapping[str, str] | None = None, folder: Path | None = None, seconds: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """``lastgood ARGUMENTS`` to its end. One that does not end in time is killed, and TimeoutExpired is raised."""
    process = Process(*arguments, environment=environment, folder=folder)
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException:
        process.kill()
        raise
    return subprocess.CompletedProcess(["lastgood", *arguments], process.wait(), output, errors)


def _readable(one: socket.socket, seconds: float) -> bool:
    ready = select.poll()
    ready.register(one, select.POLLIN)
    return bool(ready.poll(1000 * seconds))


class _Program:
    """The program that forks; one for each process that runs tests, which takes it along when it ends."""

    def __init__(self) -> None:
        self._orders, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LASTGOOD"))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(PROGRAM), str(far.fileno())],
            env={**environment, "PYTHONPATH": str(ROOT / "src")},
            pass_fds=[far.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
        far.close()

    def order(self, what: Mapping[str, object], descriptors: list[int]) -> None:
        with self._lock:
            socket.send_fds(self._orders, [json.dumps(what).encode()], descriptors)

    def close(self) -> None:
        """Its orders end: so does it."""
        self._orders.close()
        self._process.wait(timeout=30)


_program: _Program | None = None
_starting = threading.Lock()


def _the_program() -> _Program:
    global _program
    with _starting:
        if _program is None:
            _program = _Program()
        return _program


def close() -> None:
    """Ends the program that forks, if there is one; tests/conftest.py does it."""
    global _program
    with _starting:
        if _program is not None:
            _program.close()
            _program = None
