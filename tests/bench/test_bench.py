"""The benchmarks run, and count what they say they count; how fast anything is, is not tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import measure
from bench.contestants import FLOOR, LASTGOOD, LASTGOOD_USABLE, PSQL
from bench.measure import ProgramFailed, Series
from bench.results import Results

WHO = (PSQL, "pg_restore -j 2, directory", LASTGOOD, LASTGOOD_USABLE, FLOOR)


def _short(output: Path, *parts: str, seconds: float = 280) -> Results:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *parts, "--short", "--contestants", *WHO, "--output", str(output)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in output.read_text()
    return Results.at(output.with_suffix(".json"))


def test_the_short_form_restores(tmp_path: Path) -> None:
    results = _short(tmp_path / "measurements.md", "restores", "costs")
    (contest,) = results.contests.values()
    assert [*contest.contestants] == [*WHO]
    for name, who in contest.contestants.items():
        (run,) = who.runs
        assert run.seconds > 0 and run.peak > 0, name
        assert (run.wal > 1_000_000) == (name != FLOOR), name  # cp writes none
    assert [table.name for table in results.costs[18].tables] == [
        "public.activities",
        "public.contacts",
        "public.opportunities",
        "public.organizations",
    ]
    assert (tmp_path / "measurements.svg").exists()


def test_the_short_form_measures_the_rest(tmp_path: Path) -> None:
    results = _short(tmp_path / "measurements.md", "start", "growth", "service", "facts")
    assert [row[0] for row in results.other["Start of a command"].rows if "goal" in row[2]] == [
        "`lastgood --version`",
        "`lastgood --help`",
        "Tab: `lastgood ro`",
        "Tab: `lastgood rollback `, a restore point",
        "`lastgood status`",
    ]
    (smallest,) = results.growth[18]
    assert [*smallest.contestants] == [PSQL, LASTGOOD]
    assert [row[0] for row in results.other["Rollback and undo"].rows] == [
        "`lastgood facts` of the dump",
        "`lastgood rollback --yes`, from start to end",
        "`lastgood undo --yes`, from start to end",
        "of that, the swap",
        "the longest read of 8 clients during rollback and undo",
    ]
    assert results.other["Rollback and undo"].rows[-1][2].startswith("0 of ")
    assert len(results.other["Facts of wide rows"].rows) == 2
    assert (tmp_path / "growth.svg").exists()


@pytest.mark.timeout(600)
def test_the_short_form_measures_the_way_in_place(tmp_path: Path) -> None:
    results = _short(tmp_path / "measurements.md", "in-place", seconds=560)
    rows = results.other["In place"].rows
    under_clients = [
        f"{command}, quiet: {what}"
        for command in ("rollback", "undo")
        for what in ("longest read at the switch", "longest write at the switch", "failed requests")
    ]
    assert [row[0] for row in rows] == [
        "psql loading the same dump",
        "build and proof, without clients",
        "the switch, without clients",
        "the undo, without clients",
        *under_clients,
        "50 tables with 2 indexes and a foreign key each",
    ]
    for _, value, remark in (row for row in rows if row[0].endswith("failed requests")):
        assert int(value.partition(" of ")[2].replace(",", "")) > 100
        # A prepared statement whose result changed fails once.
        assert re.match(r"(none|1 × 0A000 \([^)]+\)(, 1 × 0A000 \([^)]+\))*); ", remark), remark
    assert rows[-1][1].startswith("switch "), rows[-1]


def test_time_and_memory_are_those_of_the_program() -> None:
    small = measure.run([sys.executable, "-S", "-c", "print('x')"])
    large = measure.run([sys.executable, "-S", "-c", "b = bytearray(200 << 20); print(len(b))"])
    assert small.output == b"x\n"
    assert 0 < small.peak < 30 << 20  # not the tester's own memory
    assert large.peak > 200 << 20
    assert 0 < small.seconds < 60
    assert 0 < small.processor < 60


def test_children_count_together() -> None:
    # Each child holds its memory until all of them do, and the watcher has had time to look.
    child = "import sys; b = bytearray(60 << 20); print(flush=True); sys.stdin.read()"
    parent = f"""
import subprocess, sys, time
children = [subprocess.Popen([sys.executable, "-S", "-c", {child!r}], stdin=-1, stdout=-1) for _ in range(3)]
for child in children:
    child.stdout.readline()
time.sleep(0.5)
for child in children:
    child.communicate()
"""
    peak = measure.run([sys.executable, "-S", "-c", parent]).peak
    assert 180 << 20 < peak < 260 << 20


def test_a_failing_program_is_no_measurement() -> None:
    with pytest.raises(ProgramFailed, match="ended with 3: it broke"):
        measure.run([sys.executable, "-S", "-c", "import sys; sys.stderr.write('it broke'); sys.exit(3)"])


def test_a_series_shows_its_median_and_its_spread() -> None:
    assert Series((3.0, 1.0, 2.0)).text("s") == "2.0 s (1.0–3.0)"
    assert Series((3.0, 1.0, 2.0)).median == 2.0
