"""A terminal of 80×24 and the operator who sits at it: what a program shows, as it stands on the screen.

The screen is emulated, so that what a live display overwrites, and what scrolls off, is gone for the test too.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Mapping
from pathlib import Path

import pexpect
import pyte
from wcwidth import wcswidth

WIDTH, HEIGHT = 80, 24
PATIENCE = 120.0
PROMPT = "> "
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07)")


class Terminal:
    """``lastgood ARGUMENTS`` at a terminal, started as a user starts it."""

    def __init__(self, *arguments: str, environment: Mapping[str, str], folder: Path) -> None:
        self._screen = pyte.HistoryScreen(WIDTH, HEIGHT, history=10_000)
        self._stream = pyte.Stream(self._screen)
        self._child = pexpect.spawn(
            sys.executable,
            ["-m", "lastgood", *arguments],
            env={**environment, "TERM": "xterm-256color"},
            cwd=str(folder),
            dimensions=(HEIGHT, WIDTH),
            encoding="utf-8",
            timeout=PATIENCE,
        )
        self._child.logfile_read = self._written = io.StringIO()

    def until_question(self) -> list[str]:
        """Wait for the next question and return the screen then, its last line being the prompt. Fails if the program
        ends before."""
        asked = self._child.expect([rf"\r?\n{PROMPT}$", pexpect.EOF]) == 0
        self._show()
        assert asked, "it ended without a question:\n" + "\n".join(self.transcript)
        return self.screen

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        self._child.sendline(line)

    def end(self) -> int:
        """Wait for the end of the program and return its exit status."""
        self._child.expect(pexpect.EOF)
        self._show()
        self._child.close()
        status = self._child.exitstatus
        assert status is not None, f"ended by signal {self._child.signalstatus}"
        return int(status)

    def _show(self) -> None:
        after = self._child.after
        self._stream.feed(self._child.before + (after if isinstance(after, str) else ""))

    @property
    def screen(self) -> list[str]:
        """The lines that stand on the screen, without the empty ones below the cursor."""
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def transcript(self) -> list[str]:
        """Every line that was shown and not overwritten: what scrolled off, then the screen."""
        above = ["".join(line[place].data for place in range(WIDTH)).rstrip() for line in self._screen.history.top]
        return [*above, *self.screen]

    @property
    def widest(self) -> int:
        """The width of the widest line that was written, as the program wrote it, not as the terminal broke it."""
        lines = re.split(r"[\r\n]+", _ESCAPES.sub("", self._written.getvalue()))
        return max(int(wcswidth(line)) for line in lines)
