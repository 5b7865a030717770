"""A foreign program that ends with lastgood: the control of the leash that starts it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lastgood.process.leash import PATIENCE

LEASH = str(Path(__file__).with_name("leash.py"))


class Leashed:
    """A foreign program, started by a leash. Leaving the block ends it, if it is still running."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None,
        output: int,
        holding: int | None,
    ) -> None:
        self.status: int | None = None
        self._leash = subprocess.Popen(
            # Only the standard library: no module from the folder or from installed packages is imported.
            [sys.executable, "-I", "-S", LEASH, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            pass_fds=() if holding is None else (holding,),
        )
        assert self._leash.stdin is not None and self._leash.stdout is not None
        self._orders, self._answers = self._leash.stdin, self._leash.stdout
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
            # A killed leash reports nothing: then its own status stands for the program's.
            self.status = number if word == "ended" else self._leash.wait()
        return self.status is not None

    def __enter__(self) -> Leashed:
        return self

    def __exit__(self, *error: object) -> None:
        self._orders.close()
        with suppress(subprocess.TimeoutExpired):
            self._leash.wait(2 * PATIENCE)
        if self._leash.returncode != 0 and self._group:
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
        self._leash.kill()
        self._leash.wait()
        self._answers.close()
