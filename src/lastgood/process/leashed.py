"""A foreign program that ends when we do: our side of the leash that starts it."""

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
    """A foreign program that a leash has started. Leaving the block ends it, if it has not ended."""

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
            # Alone with the standard library: nothing that lies in the folder, or is installed, gets into it.
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
            word, number = self._heard()
            if word == "failed":
                raise OSError(number, os.strerror(number))
        except BaseException:  # Ctrl+C, too: whoever asked for the program has nothing yet that could end it
            self.__exit__()
            raise
        if word == "started":
            self._group = number

    def _heard(self) -> tuple[str, int]:
        word, _, number = self._answers.readline().decode().partition(" ")
        return word, int(number or 0)

    def ended(self, seconds: float) -> bool:
        """Whether it has, or does within so many seconds; then ``status`` is how."""
        ready = select.poll()
        ready.register(self._answers, select.POLLIN)
        if self.status is None and ready.poll(1000 * seconds):
            word, number = self._heard()
            # A leash that was killed says nothing: then its end has to do for the program's.
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
