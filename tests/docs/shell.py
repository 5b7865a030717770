"""Runs a page's commands as a reader does, one after the other, in one folder and one environment.

A plain call of lastgood is made in this process, which takes a tenth of the time; everything else is bash's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import SRC, Lastgood, Outcome
from tests.docs.page import Command

_SECONDS = 120


@contextmanager
def _standard_input(file: str) -> Iterator[None]:
    """For the length of a ``with`` block the process reads a file, or nothing."""
    with Path(file or os.devnull).open(encoding="utf-8") as opened:
        before, sys.stdin = sys.stdin, opened
        try:
            yield
        finally:
            sys.stdin = before


class Shell:
    """``substitutions`` are made in every command: for example the placeholder of the reader's own server."""

    def __init__(self, lastgood: Lastgood, monkeypatch: pytest.MonkeyPatch, programs: Path, folder: Path) -> None:
        self.substitutions: dict[str, str] = {}
        self._lastgood = lastgood
        self._monkeypatch = monkeypatch
        self._notes = folder / "environment"
        shim = folder / "bin"
        shim.mkdir(parents=True)
        (shim / "lastgood").write_text(f'#!/bin/sh\nPYTHONPATH={SRC} exec {sys.executable} -m lastgood "$@"\n')
        (shim / "lastgood").chmod(0o755)
        self.bin = shim
        monkeypatch.setenv("PATH", f"{shim}:{programs}:{os.environ['PATH']}")

    def substituted(self, text: str) -> str:
        """The text of a page, adapted to this server."""
        for shown, here in self.substitutions.items():
            text = text.replace(shown, here)
        return text

    def run(self, command: Command) -> Outcome:
        """Runs one command to its end. What it exports, and the folder it changes to, hold for the next ones."""
        here = Command(command.place, self.substituted(command.text))
        call = here.call
        if call is not None:
            with _standard_input(call.given):
                outcome = self._lastgood(*call.arguments)
            if call.into:
                Path(call.into).write_text(outcome.out)
            return outcome
        script = f'{here.text}\nstatus=$?\n{{ pwd; env -0; }} > "{self._notes}"\nexit $status\n'
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        self._take_over()
        return Outcome(done.returncode, done.stdout, done.stderr)

    def _take_over(self) -> None:
        if not self._notes.exists():
            return
        folder, _, variables = self._notes.read_text().partition("\n")
        self._monkeypatch.chdir(folder)
        found: Mapping[str, str] = dict(
            each.split("=", 1) for each in variables.split("\0") if "=" in each and not each.startswith("_=")
        )
        for name, value in found.items():
            if os.environ.get(name) != value and name not in ("SHLVL", "PWD", "OLDPWD"):
                self._monkeypatch.setenv(name, value)
