"""Timing of one program, and statistics of several runs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.memory import Watch

LAUNCHER = Path(__file__).with_name("launch.py")


class ProgramFailed(Exception):
    """A measured program did not end with status 0, so there is nothing to measure. ``output``: its end."""

    def __init__(self, arguments: Sequence[str | Path], status: str, output: str) -> None:
        super().__init__(f"{' '.join(map(str, arguments))} ended with {status}: {output}")
        self.output = output


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a program: wall-clock seconds, CPU seconds of it and its children, its stdout, and its peak memory in
    bytes. The peak is the greater of two figures: the sum over it and its children in samples ten times a second, with
    shared pages counted once; and the kernel's exact resident peak of the largest of them."""

    seconds: float
    processor: float
    peak: int
    output: bytes


def run(
    arguments: Sequence[str | Path], *, stdin: Path | None = None, environment: Mapping[str, str] | None = None
) -> Run:
    """Run a program to its end. Raises ProgramFailed with the end of its output."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        Path(stdin or os.devnull).open("rb") as source,
    ):
        result = Path(folder) / "result"
        with subprocess.Popen(
            [sys.executable, "-S", "-E", LAUNCHER, result, *arguments],
            stdin=source,
            stdout=output,
            stderr=errors,
            env={**os.environ, **(environment or {})},
        ) as launcher:
            try:
                with Watch(launcher.pid) as watch:
                    launcher.wait()
            except BaseException:
                launcher.kill()
                raise
            if launcher.returncode != 0:
                raise subprocess.CalledProcessError(launcher.returncode, launcher.args)
        seconds, resident, processor, status = result.read_text().split(" ")
        output.seek(0)
        errors.seek(0)
        if status != "0":
            raise ProgramFailed(arguments, status, (errors.read() + output.read())[-2000:].decode("utf-8", "replace"))
        return Run(float(seconds), float(processor), max(watch.peak, int(resident)), output.read())


@dataclass(frozen=True, slots=True)
class Series:
    """Several runs of the same thing."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def text(self, unit: str, digits: int = 1) -> str:
        """The median with the smallest and greatest value, as ``4.2 s (4.0–4.9)``."""
        low, high = min(self.values), max(self.values)
        return f"{self.median:.{digits}f} {unit} ({low:.{digits}f}–{high:.{digits}f})"
