"""The processor time of a start, which every script and every completion spends.

Processor time, not seconds: a machine that does something else besides measures the same. The smallest of several runs
counts, for nothing can make a start cheaper than it is. ``psql`` is measured for comparison.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench import measure
from bench.measure import Series
from bench.results import Lines
from lastgood.postgres.embedded import EmbeddedServer

LASTGOOD = (sys.executable, "-m", "lastgood")
MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Start:
    """One way to start. ``goal``: the most seconds of processor time that will do; None for what is only compared."""

    what: str
    command: Sequence[str]
    goal: float | None = None
    environment: Mapping[str, str] | None = None


def _tab(*words: str) -> dict[str, str]:
    line = " ".join(("lastgood", *words))
    return {"_LASTGOOD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}


def measured(major: int, rounds: int, log: Callable[[str], None], runs: int) -> Lines:
    """Measure each start, with its goal, and psql's for comparison; ``runs``: of each in a round, for one is short."""
    with EmbeddedServer(major) as server:
        psql = str(server.bin / "psql")
        url = server.url("postgres")
        starts = (
            Start("`psql --version`", (psql, "--version")),
            Start("`lastgood --version`", (*LASTGOOD, "--version"), 0.15),
            Start("`lastgood --help`", (*LASTGOOD, "--help"), 0.15),
            Start("`lastgood rollback --help`", (*LASTGOOD, "rollback", "--help")),
            Start("Tab: `lastgood ro`", LASTGOOD, 0.15, _tab("ro")),
            Start("Tab: `lastgood rollback `, a restore point", LASTGOOD, 0.15, _tab("rollback", "")),
            Start("`psql -c` of one query", (psql, "-Xc", "SELECT version()", url)),
            Start("`lastgood status`", (*LASTGOOD, "status"), 0.35, {"LASTGOOD_DB": url}),
        )
        found: dict[str, list[float]] = {each.what: [] for each in starts}
        for number in range(rounds):
            log(f"round {number + 1} of {rounds}: starts")
            for each in starts * runs:
                found[each.what].append(measure.run(each.command, environment=each.environment).processor)
    return Lines(
        how=f"Processor time of one start, {rounds * runs} runs of each; a goal is met when the smallest meets it.",
        rows=tuple(_row(each, found[each.what]) for each in starts),
    )


def _row(start: Start, seconds: Sequence[float]) -> tuple[str, str, str]:
    remark = f"goal ≤ {start.goal:g} s" if start.goal is not None else ""
    if start.goal is not None and min(seconds) > start.goal:
        remark += f", {MISSED}"
    return start.what, Series(tuple(seconds)).text("s", 3), remark
