"""The same measurements give the same report, with the goals."""

from __future__ import annotations

from pathlib import Path

from bench import report
from bench.contestants import FLOOR, LASTGOOD, PG_RESTORE_2, PSQL
from bench.report import BY_HAND
from bench.results import Contest, Contestant, Results, Run


def _who(*seconds: float, **parts: float) -> Contestant:
    runs = tuple(Run(seconds=s, peak=50 << 20, client=1, server=2, wal=3_000_000, parts=parts) for s in seconds)
    return Contestant(runs=runs)


def _contest(plain_bytes: int, **lastgood: float) -> Contest:
    return Contest(
        data="crm",
        major=18,
        version="18.6",
        scale=1,
        plain_bytes=plain_bytes,
        database_bytes=2 * plain_bytes,
        made="2026-11-23",
        contestants={
            PSQL: _who(20, 18, 22),
            "psql -1": Contestant(error="psql:dump.sql:7: ERROR:  out of shared memory\nHINT:  You might need more."),
            PG_RESTORE_2: _who(12.5),
            LASTGOOD: _who(10, 11, 9, **lastgood),
            FLOOR: _who(2),
        },
    )


RESULTS = Results(
    machine="2 processors",
    contests={"crm-18": _contest(1_200_000_000, plan=1, build=6, prove=1.5, total=9)},
    growth={18: (_contest(100_000_000), _contest(1_200_000_000))},
)


def test_goals_are_shown_with_the_measurements(tmp_path: Path) -> None:
    text = report.written(RESULTS, tmp_path / "measurements.md")
    for line in (
        "| the CRM, against `psql` | ≤ 0.55 × | 0.50 × |",
        "| the CRM, against the best `pg_restore -j N` | ≤ 0.80 × | 0.80 × |",
        "| the CRM, usable, against `psql` | ≤ 0.35 × | – |",
        "| the proof, share of the CRM's restore (reading back not counted) | ≤ 20 % | 25 % (missed) |",
        "| peak memory of lastgood, any data set | ≤ 200 MiB | 50 MiB |",
        "| for comparison: the CRM, against copying its files |  | 5.00 × |",
        "| psql | 20.0 s (18.0–22.0) | 1.00 | 1.60 | 1.0 s | 2.0 s | 3 MB | 50 MiB |",
        "| psql -1 | failed: psql:dump.sql:7: ERROR:  out of shared memory | | | | | | |",
        "* lastgood, plain: plan 1.0 s, build 6.0 s, prove 1.5 s.",
        "PostgreSQL 18: a byte of the largest costs lastgood 92% less than a byte of the smallest.",
    ):
        assert line in text.splitlines()


def test_the_same_figures_give_the_same_files(tmp_path: Path) -> None:
    files = []
    for name in ("one", "two"):
        report.written(RESULTS, tmp_path / name / "measurements.md")
        files.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert files[0] == files[1]
    assert sorted(files[0]) == ["growth.svg", "measurements.md", "measurements.svg"]


def test_what_was_written_by_hand_stays(tmp_path: Path) -> None:
    output = tmp_path / "measurements.md"
    report.written(Results(), output)
    with output.open("a") as file:
        file.write("\nWhy it is so.\n")
    report.written(RESULTS, output)
    assert output.read_text().endswith(f"{BY_HAND}\n\nWhy it is so.\n")
    assert output.read_text().count("# Measurements") == 1


def test_results_are_kept(tmp_path: Path) -> None:
    RESULTS.written(tmp_path / "results.json")
    assert Results.at(tmp_path / "results.json") == RESULTS
    assert Results.at(tmp_path / "none.json") == Results()
