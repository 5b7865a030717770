"""The benchmarks run, and count what they say they count; how fast anything is, is not tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import measure
from bench.measure import ProgramFailed, Series


def test_the_short_form_fills_the_table(tmp_path: Path) -> None:
    output = tmp_path / "docs" / "measurements.md"
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--short", "--output", str(output)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert output.read_text() == done.stdout.removesuffix("\n")
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")][2:]
    assert [row[0].removeprefix("| ") for row in rows] == [
        "restore a plain dump into an empty database: `psql -1 -v ON_ERROR_STOP=1`",
        "the same with `lastgood restore`, every table proved",
        "of that, the loading alone",
        "`lastgood facts` of the dump",
        "`lastgood rollback --yes`, from start to end",
        "`lastgood undo --yes`, from start to end",
        "of that, the swap",
        "the longest read of 8 clients during rollback and undo",
    ]
    assert rows[-1][2].startswith("0 of ")


def test_time_and_memory_are_those_of_the_program() -> None:
    small = measure.run([sys.executable, "-S", "-c", "print('x')"])
    large = measure.run([sys.executable, "-S", "-c", "b = bytearray(200 << 20); print(len(b))"])
    assert small.output == b"x\n"
    assert 0 < small.peak < 30 << 20  # not the tester's own memory
    assert large.peak > 200 << 20
    assert 0 < small.seconds < 60


def test_a_failing_program_is_no_measurement() -> None:
    with pytest.raises(ProgramFailed, match="ended with 3: it broke"):
        measure.run([sys.executable, "-S", "-c", "import sys; sys.stderr.write('it broke'); sys.exit(3)"])


def test_a_series_shows_its_median_and_its_spread() -> None:
    assert Series((3.0, 1.0, 2.0)).text("s") == "2.0 s (1.0–3.0)"
    assert Series((3.0, 1.0, 2.0)).median == 2.0
