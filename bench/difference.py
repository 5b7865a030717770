"""Differences between a live database and its restore points, in relation to one pg_dump of the same database.

The CRM, 1 % of whose contacts were updated: `lastgood diff` as a user runs it, the start of Python included, and what
the comparison adds to a plan. pg_dump writes into a pipe, right before each measurement: the goals are ratios."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import measure
from bench.live import Live, prepared
from bench.measure import Series
from bench.results import Lines

# Exit status 3 says that the sides differ.
DIFF = "import sys; from lastgood.cli import main; sys.exit(0 if main(sys.argv[1:]) in (0, 3) else 1)"
CHANGE = "UPDATE public.contacts SET updated_at = now() WHERE id % 100 = 0"


def measured(scale: float, major: int, rounds: int, log: Callable[[str], None]) -> Lines:
    """Measure each comparison, with its ratio to pg_dump."""
    with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder, prepared(Path(folder), scale, major) as live:
        store = live.dump.parent
        url = live.server.url("crm")
        common = ["--db", url, "--store", str(store), "--state", f"{folder}/state"]
        measure.run([sys.executable, "-m", "lastgood", "backup", "--label", "own", "--quiet", *common])
        (own,) = store.glob("*_own.sql")
        rows = [_row(live, "digests, nothing changed", ["diff", own, "--level", "digest", *common], 1.1, rounds, log)]
        with live.server.target("crm").connect() as connection:
            connection.execute(CHANGE.encode())
        comparisons: tuple[tuple[str, list[str | Path], float | None], ...] = (
            ("counts against a plain dump", ["diff", live.dump], 1.6),
            ("counts against a restore point with a manifest", ["diff", own], 1.6),
            ("all rows into Parquet", ["diff", own, "--format", "parquet", "--output", Path(folder) / "rows"], None),
        )
        for what, arguments, goal in comparisons:
            rows.append(_row(live, f"{what}, 1 % of one table changed", [*arguments, *common], goal, rounds, log))
        rows += _plans(own, common, rounds, log)
        how = f"The CRM with {live.rows:,} rows, {live.dump_bytes / 1e6:,.0f} MB as a plain dump, {rounds} rounds."
    return Lines(how=how, rows=tuple(rows))


def _row(
    live: Live,
    what: str,
    arguments: Sequence[str | Path],
    goal: float | None,
    rounds: int,
    log: Callable[[str], None],
) -> tuple[str, str, str]:
    seconds, ratios, peak = [], [], 0
    for number in range(rounds):
        log(f"round {number + 1} of {rounds}: {what}")
        dumped = measure.run(
            ["sh", "-c", '"$0" "$1" | cat > /dev/null', live.server.bin / "pg_dump", live.server.url("crm")]
        )
        run = measure.run([sys.executable, "-c", DIFF, *arguments])
        seconds.append(run.seconds)
        ratios.append(run.seconds / dumped.seconds)
        peak = max(peak, run.peak)
    aim = f" (goal ≤ {goal})" if goal is not None else ""
    remark = f"{statistics.median(ratios):.2f} × pg_dump{aim}; peak memory {peak / (1 << 20):.0f} MiB"
    return what, Series(tuple(seconds)).text("s", 1), remark


# The goal for a database of 200 MB.
PLAN_SECONDS = 5.0


def _plans(own: Path, common: Sequence[str], rounds: int, log: Callable[[str], None]) -> list[tuple[str, str, str]]:
    levels = {
        "none": "a plan that compares nothing",
        "digest": "a plan with digests",
        "count": "a plan with exact counts",
    }
    found: dict[str, list[float]] = {level: [] for level in levels}
    for number in range(rounds):
        for level, what in levels.items():
            log(f"round {number + 1} of {rounds}: {what}")
            arguments: list[str | Path] = ["rollback", own, "--dry-run", "--compare", level, *common]
            found[level].append(measure.run([sys.executable, "-c", DIFF, *arguments]).seconds)
    without = statistics.median(found["none"])
    return [
        (
            levels[level],
            Series(tuple(seconds)).text("s", 1),
            ""
            if level == "none"
            else f"{statistics.median(seconds) - without:.1f} s more (goal < {PLAN_SECONDS:.0f} s with 200 MB)",
        )
        for level, seconds in found.items()
    ]
