"""The effects on users of the live database: rollback and undo under reading clients, after the facts of a dump."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import live, measure
from bench.live import LIVE, Live
from bench.measure import Series
from bench.results import Lines
from demo.application import Application

MIB = 1 << 20
READERS = 8

_Rows = tuple[tuple[str, str, str], ...]


def measured(scale: float, major: int, rounds: int, log: Callable[[str], None]) -> Lines:
    """Measure with the demo's CRM at that scale, on a server of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="lastgood-bench-") as folder,
        live.prepared(Path(folder), scale, major) as at,
    ):
        return Lines(
            how=f"PostgreSQL {major}; the demo's CRM, {at.rows:,} rows; database {at.database_bytes / 1e6:,.0f} MB, "
            f"plain dump {at.dump_bytes / 1e6:,.0f} MB; {rounds} rounds.",
            rows=(*_facts(at, rounds, log), *_swaps(at, rounds, log)),
        )


def _facts(at: Live, rounds: int, log: Callable[[str], None]) -> _Rows:
    rates, peak = [], 0
    for number in range(rounds):
        log(f"round {number + 1} of {rounds}: facts of the dump")
        done = _lastgood(at, "facts", at.dump)
        rates.append(at.dump_bytes / 1e6 / done.seconds)
        peak = max(peak, done.peak)
    return (
        ("`lastgood facts` of the dump", Series(tuple(rates)).text("MB/s", 0), f"peak memory {peak / MIB:.0f} MiB"),
    )


def _swaps(at: Live, rounds: int, log: Callable[[str], None]) -> _Rows:
    """Measure a rollback and its undo in each round, under continuous reads: the seconds that lastgood's caller waits,
    the swap as lastgood timed it, and the longest read of a client."""
    rollbacks, undos, swapped, longest = [], [], [], []
    reads = failed = 0
    with Application(
        at.server.target(LIVE),
        organizations=at.size.organizations,
        contacts=at.size.contacts,
        readers=READERS,
        writers=0,
    ) as app:
        for number in range(rounds):
            app.wait_for_work(reads=50, writes=0)
            log(f"round {number + 1} of {rounds}: rollback and undo under {READERS} reading clients")
            app.lap()
            rollbacks.append(_lastgood(at, "rollback", at.dump, "--yes").seconds)
            done = _lastgood(at, "undo", "--yes")
            undos.append(done.seconds)
            swapped.append(1000 * json.loads(done.output)["seconds"]["read_outage"])
            app.wait_for_work(reads=50, writes=0)
            lap = app.lap()
            longest.append(1000 * lap.longest_read)
            reads, failed = reads + lap.reads, failed + lap.failed_reads
    return (
        (
            "`lastgood rollback --yes`, from start to end",
            Series(tuple(rollbacks)).text("s"),
            "with emergency backup and proof",
        ),
        ("`lastgood undo --yes`, from start to end", Series(tuple(undos)).text("s", 2), "starting Python included"),
        ("of that, the swap", Series(tuple(swapped)).text("ms", 0), "no new session can begin"),
        (
            f"the longest read of {READERS} clients during rollback and undo",
            Series(tuple(longest)).text("ms", 0),
            f"{failed} of {reads:,} reads failed; reconnecting included",
        ),
    )


def _lastgood(at: Live, *arguments: str | Path) -> measure.Run:
    return measure.run([sys.executable, "-m", "lastgood", *arguments, "--json"], environment=at.lastgood.environment)
