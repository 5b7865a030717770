"""A foreign program that ends with lastgood: the control of the guard that starts it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lastgood.process.guard import PATIENCE

GUARD = str(Path(__file__).with_name("guard.py"))


class GuardedProgram:
    """A foreign program, started by a guard. Leaving the block ends it, if it is still running."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None,
        output: int,
        lock: int | None,
    ) -> None:
        self.status: int | None = None
        self._guard = subprocess.Popen(
            # Only the standard library: no module from the folder or from installed packages is imported.
            [sys.executable, "-I", "-S", GUARD, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )
        assert self._guard.stdin is not None and self._guard.stdout is not None
        self._orders, self._answers = self._guard.stdin, self._guard.stdout
        self._group = 0
        try:
            word, number = self._answer()
            if word == "failed":
                raise OSError(number, os.strerror(number))
        except BaseException:  # Ctrl+C, too: the caller has no object yet that could end the program
            self.__exit__()
            raise
        if word == "started":
            self._group = number

    def _answer(self) -> tuple[str, int]:
        word, _, number = self._answers.readline().decode().partition(" ")
        return word, int(number or 0)

    def ended(self, seconds: float) -> bool:
        """Whether the program has ended, or ends within ``seconds``; then ``status`` is its exit status."""
        ready = select.poll()
        ready.register(self._answers, select.POLLIN)
        if self.status is None and ready.poll(1000 * seconds):
            word, number = self._answer()
            # A killed guard reports nothing: then its own status stands for the program's.
            self.status = number if word == "ended" else self._guard.wait()
        return self.status is not None

    def __enter__(self) -> GuardedProgram:
        return self

    def __exit__(self, *error: object) -> None:
        self._orders.close()
        with suppress(subprocess.TimeoutExpired):
            self._guard.wait(2 * PATIENCE)
        if self._guard.returncode != 0 and self._group:
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
        self._guard.kill()
        self._guard.wait()
        self._answers.close()
