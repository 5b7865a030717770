"""A foreign program that ends when we do: our side of the keeper that starts it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lastgood.keeper import PATIENCE

KEEPER = str(Path(__file__).with_name("keeper.py"))


class Kept:
    """A foreign program that a keeper has started. Leaving the block ends it, if it has not ended."""

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        folder: Path | None,
        output: int,
        holding: int | None,
    ) -> None:
        self.status: int | None = None
        self._keeper = subprocess.Popen(
            # Alone with the standard library: nothing that lies in the folder, or is installed, gets into it.
            [sys.executable, "-I", "-S", KEEPER, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            env=environment,
            cwd=folder,
            start_new_session=True,
            pass_fds=() if holding is None else (holding,),
        )
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        self._orders, self._answers = self._keeper.stdin, self._keeper.stdout
        self._group = 0
        word, number = self._heard()
        if word == "failed":
            self.__exit__()
            raise OSError(number, os.strerror(number))
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
            # A keeper that was killed says nothing: then its end has to do for the program's.
            self.status = number if word == "ended" else self._keeper.wait()
        return self.status is not None

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *error: object) -> None:
        self._orders.close()
        with suppress(subprocess.TimeoutExpired):
            self._keeper.wait(2 * PATIENCE)
        if self._keeper.returncode != 0 and self._group:
            with suppress(ProcessLookupError):
                os.killpg(self._group, signal.SIGKILL)
        self._keeper.kill()
        self._keeper.wait()
        self._answers.close()
