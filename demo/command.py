"""The command line of lastgood, run as a user runs it: as a separate program, with ``--json``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lastgood.process import interrupts


@dataclass(frozen=True, slots=True)
class Answer:
    """``status``: the exit status; ``document``: the JSON on stdout, empty if there was none; ``stderr``: its text."""

    status: int
    document: dict[str, Any]
    stderr: str
    seconds: float
    printed: str


class Lastgood:
    """``Lastgood(url, store=…, state=…)("rollback", "--yes")``. The URL is passed in the environment, so it is not in
    the process list."""

    def __init__(self, url: str, *, store: Path, state: Path) -> None:
        self.environment: dict[str, str] = {
            "LASTGOOD_DB": url,
            "LASTGOOD_STORE": str(store),
            "LASTGOOD_STATE": str(state),
        }

    def __call__(
        self, *arguments: str | Path, as_json: bool = True, environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Run one command to its end and return its answer, whatever its status.

        Ctrl+C is passed on to the command, which reverts its work; then KeyboardInterrupt is raised here.
        """
        started = time.monotonic()
        stop = threading.Event()
        # Not by catching KeyboardInterrupt: it could come after the program has started and before it is known here.
        with interrupts.on_signal(stop.set):
            process = self.start(*arguments, *(["--json"] if as_json else []), environment=environment)
            printed, stderr = _to_its_end(process, stop)
        if stop.is_set():
            raise KeyboardInterrupt
        text = printed.decode("utf-8", "replace")
        document = json.loads(text) if as_json and text.strip() else {}
        return Answer(process.returncode, document, stderr.decode("utf-8", "replace"), time.monotonic() - started, text)

    def start(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start one command, for callers that watch or kill it."""
        return subprocess.Popen(
            [sys.executable, "-m", "lastgood.cli", *map(str, arguments)],
            env={**os.environ, **self.environment, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )


def _to_its_end(process: subprocess.Popen[bytes], stop: threading.Event) -> tuple[bytes, bytes]:
    """The stdout and stderr of a program; ``stop`` interrupts it, once."""
    passed_on = False
    try:
        while True:
            try:
                return process.communicate(timeout=0.1)
            except subprocess.TimeoutExpired:
                if stop.is_set() and not passed_on:
                    process.send_signal(signal.SIGINT)
                    passed_on = True
    except KeyboardInterrupt:
        process.kill()
        process.communicate()
        raise
