"""``python -m bench``: medians of interleaved runs on reproducible data, as a Markdown table.

``--short`` is for seeing that everything works: small data, one round, nothing written unless ``--output`` says where.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from bench import contests, live
from bench.contests import MIB, Restores, Swaps
from bench.live import Bench
from bench.measure import ProgramFailed, Series

DEFAULT_OUTPUT = Path("docs/measurements.md")


def main() -> int:
    """Measures and writes the table. Returns 0, or 1 when a program that is measured failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", type=float, help="size of the data; 25 is about a dump of 0.9 GB (default)")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (default 3)")
    parser.add_argument("--major", type=int, default=18, help="version of PostgreSQL (default 18)")
    parser.add_argument("--short", action="store_true", help="small data and one round")
    parser.add_argument("--output", type=Path, help=f"where the table goes (default {DEFAULT_OUTPUT})")
    given = parser.parse_args()
    scale = given.scale or (0.05 if given.short else 25.0)
    rounds = given.rounds or (1 if given.short else 3)
    output = given.output or (None if given.short else DEFAULT_OUTPUT)
    try:
        with tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder:
            _say(f"making the data at scale {scale}")
            with live.prepared(Path(folder), scale, given.major) as bench:
                restores = contests.restores(bench, rounds, _say)
                facts, facts_peak = contests.facts(bench, rounds, _say)
                swaps = contests.swaps(bench, rounds, _say)
                text = _markdown(bench, scale, rounds, restores, facts, facts_peak, swaps)
    except ProgramFailed as error:
        _say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
    print(text)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
    return 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _markdown(
    bench: Bench, scale: float, rounds: int, restores: Restores, facts: Series, facts_peak: int, swaps: Swaps
) -> str:
    rows = [
        (
            "restore a plain dump into an empty database: `psql -1 -v ON_ERROR_STOP=1`",
            restores.psql.text("s"),
            f"peak memory {restores.psql_peak / MIB:.0f} MiB",
        ),
        (
            "the same with `lastgood restore`, every table proved",
            restores.lastgood.text("s"),
            f"{restores.lastgood.median / restores.psql.median:.2f} × psql; "
            f"peak memory {restores.lastgood_peak / MIB:.0f} MiB",
        ),
        (
            "of that, the loading alone",
            restores.build.text("s"),
            f"{restores.build.median / restores.psql.median:.2f} × psql",
        ),
        ("`lastgood facts` of the dump", facts.text("MB/s", 0), f"peak memory {facts_peak / MIB:.0f} MiB"),
        ("`lastgood rollback --yes`, from start to end", swaps.rollback.text("s"), "with emergency backup and proof"),
        ("`lastgood undo --yes`, from start to end", swaps.undo.text("s", 2), "starting Python included"),
        ("of that, the swap", swaps.undo_swap.text("ms", 0), "no new session can begin"),
        (
            f"the longest read of {contests.READERS} clients during rollback and undo",
            swaps.longest_read.text("ms", 0),
            f"{swaps.failed_reads} of {swaps.reads:,} reads failed; reconnecting included",
        ),
    ]
    return "\n".join(
        (
            "# Measurements",
            "",
            f"Made by `python -m bench --scale {scale:g} --rounds {rounds}` on {datetime.now(UTC):%Y-%m-%d}: "
            f"{os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}, "
            f"PostgreSQL {bench.server.major} on the same machine, durable (`fsync` on).",
            f"Data: the demo's CRM, {bench.rows:,} rows; database {bench.database_bytes / 1e6:,.0f} MB, "
            f"dump {bench.dump_bytes / 1e6:,.0f} MB. Contestants took turns within each round.",
            "Each value is the median of all rounds, the smallest and the greatest in brackets.",
            "",
            "| what | median (smallest–greatest) | |",
            "| --- | --- | --- |",
            *(f"| {what} | {value} | {remark} |" for what, value, remark in rows),
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
