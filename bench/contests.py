"""What is measured. Each function runs its contestants in turn, round after round, so that whatever else the machine
does hits all of them alike."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import measure
from bench.live import LIVE, Bench
from bench.measure import Series
from demo.application import Application

MIB = 1 << 20
READERS = 8


@dataclass(frozen=True, slots=True)
class Restores:
    """psql and lastgood restoring the same dump into an empty database, seconds; ``build`` is lastgood's loading alone,
    without reading the dump first and proving the result afterwards."""

    psql: Series
    lastgood: Series
    build: Series
    psql_peak: int
    lastgood_peak: int


@dataclass(frozen=True, slots=True)
class Swaps:
    """Rollbacks and undos under reading clients: seconds as lastgood's caller waits, the swap as lastgood timed it, and
    the longest read as a client felt it."""

    rollback: Series
    undo: Series
    undo_swap: Series
    longest_read: Series
    reads: int
    failed_reads: int


def restores(bench: Bench, rounds: int, say: Callable[[str], None]) -> Restores:
    """``lastgood restore`` against ``psql -1 -v ON_ERROR_STOP=1``; who begins changes from round to round."""
    times: dict[str, list[float]] = {"psql": [], "lastgood": [], "build": []}
    peaks = {"psql": 0, "lastgood": 0}

    def with_psql(name: str) -> None:
        bench.create(name)
        done = measure.run(
            [bench.server.bin / "psql", "-X", "-q", "-1", "-v", "ON_ERROR_STOP=1", bench.server.url(name)],
            stdin=bench.dump,
        )
        times["psql"].append(done.seconds)
        peaks["psql"] = max(peaks["psql"], done.peak)

    def with_lastgood(name: str) -> None:
        done = _lastgood(bench, "restore", bench.dump, "--into", name)
        times["lastgood"].append(done.seconds)
        times["build"].append(json.loads(done.output)["seconds"]["build"])
        peaks["lastgood"] = max(peaks["lastgood"], done.peak)

    for number in range(rounds):
        order = [with_psql, with_lastgood]
        for contestant in order if number % 2 == 0 else reversed(order):
            name = f"restored_{number}_{contestant.__name__}"
            say(f"round {number + 1} of {rounds}: restore {contestant.__name__.replace('_', ' ')}")
            contestant(name)
            bench.drop(name)
    return Restores(
        Series(tuple(times["psql"])),
        Series(tuple(times["lastgood"])),
        Series(tuple(times["build"])),
        peaks["psql"],
        peaks["lastgood"],
    )


def facts(bench: Bench, rounds: int, say: Callable[[str], None]) -> tuple[Series, int]:
    """How many MB of dump text (10^6 bytes) a second become facts; and the peak memory in bytes."""
    rates, peak = [], 0
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}: facts of the dump")
        done = _lastgood(bench, "facts", bench.dump)
        rates.append(bench.dump_bytes / 1e6 / done.seconds)
        peak = max(peak, done.peak)
    return Series(tuple(rates)), peak


def swaps(bench: Bench, rounds: int, say: Callable[[str], None]) -> Swaps:
    """A rollback and its undo in each round, with readers at work all the time."""
    rollbacks, undos, swapped, longest = [], [], [], []
    reads = failed = 0
    with Application(
        bench.server.target(LIVE),
        organizations=bench.size.organizations,
        contacts=bench.size.contacts,
        readers=READERS,
        writers=0,
    ) as app:
        for number in range(rounds):
            app.wait_for_work(reads=50, writes=0)
            say(f"round {number + 1} of {rounds}: rollback and undo under {READERS} reading clients")
            app.lap()
            rollbacks.append(_lastgood(bench, "rollback", bench.dump, "--yes").seconds)
            done = _lastgood(bench, "undo", "--yes")
            undos.append(done.seconds)
            swapped.append(1000 * json.loads(done.output)["seconds"]["read_outage"])
            app.wait_for_work(reads=50, writes=0)
            lap = app.lap()
            longest.append(1000 * lap.longest_read)
            reads, failed = reads + lap.reads, failed + lap.failed_reads
    return Swaps(
        Series(tuple(rollbacks)), Series(tuple(undos)), Series(tuple(swapped)), Series(tuple(longest)), reads, failed
    )


def _lastgood(bench: Bench, *arguments: str | Path) -> measure.Run:
    return measure.run(
        [sys.executable, "-m", "lastgood.cli", *arguments, "--json"], environment=bench.lastgood.environment
    )
