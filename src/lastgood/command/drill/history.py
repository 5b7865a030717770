"""The comparison of a drill with earlier ones, and the estimate for a real rollback."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from statistics import median

from lastgood.command.drill.evidence import Compared, DrillEvidence, DrillPhase, Expected, PhaseChange
from lastgood.command.drill.seal import StoredEvidence, every
from lastgood.run.report import Report
from lastgood.text import units

MEDIAN_OF = 5
# Shared machines vary; smaller differences are not significant.
SLOWER_RATIO, SLOWER_SECONDS = 1.25, 1.0
_COMPARED = "rollback"


def passed_before(state: Path, live: str) -> list[DrillEvidence]:
    """Return the successful drills of a live database, newest first. Changed evidence does not count."""
    found = (
        each.sealed.evidence
        for each in every(state)
        if isinstance(each, StoredEvidence) and not each.problems and isinstance(each.sealed.evidence, DrillEvidence)
    )
    return list(islice((each for each in found if each.live == live and each.status == "passed"), MEDIAN_OF))


def compared(phases: Sequence[DrillPhase], bytes_now: int, before: Sequence[DrillEvidence]) -> Compared | None:
    """Compare the duration of the rollback with the last successful drill; None if there is none."""
    now = _seconds(phases)
    if not before or _COMPARED not in now:
        return None
    last = before[0]
    then = _seconds(last.phases)
    earlier = [_seconds(each.phases).get(_COMPARED) for each in before]
    ratio = now[_COMPARED] / max(then[_COMPARED], 0.001)
    size = bytes_now / last.point.bytes if last.point.bytes else None
    slower = _is_slower(then[_COMPARED], now[_COMPARED]) and ratio > SLOWER_RATIO * max(1.0, size or 1.0)
    return Compared(
        run=last.run,
        ended=last.ended,
        before=then[_COMPARED],
        now=now[_COMPARED],
        ratio=round(ratio, 2),
        median=round(median(each for each in earlier if each is not None), 3),
        bytes_ratio=round(size, 2) if size is not None else None,
        slower=slower,
        summary=_comparison(then[_COMPARED], now[_COMPARED], ratio, slower, size),
        phases=tuple(
            PhaseChange(name=name, before=then[name], now=seconds, ratio=round(seconds / max(then[name], 0.001), 2))
            for name, seconds in now.items()
            if name in then
        ),
    )


def _comparison(then: float, now: float, ratio: float, slower: bool, size: float | None) -> str:
    text = f"{units.duration(now)}, compared with {units.duration(then)} in the last drill (ratio {ratio:.2f})"
    if size is not None and abs(size - 1) >= 0.05:
        text += f"; the restore point has {size:.2f} times the size"
    if slower:
        text += f": slower by {units.duration(now - then)}"
    return text


def _is_slower(then: float, now: float) -> bool:
    return now >= then * SLOWER_RATIO and now - then >= SLOWER_SECONDS


def _seconds(phases: Iterable[DrillPhase]) -> dict[str, float]:
    return {each.name: each.seconds for each in phases if each.outcome == "done"}


def expected(report: Report, stand_in_bytes: int, live_bytes: int | None) -> Expected:
    """Estimate a real rollback: as measured, with the emergency backup scaled to the size of the live database."""
    took = report.seconds
    build, backup = took.of("build", "carry_over", "prove"), took.of("emergency")
    emergency, basis = backup, "as measured in this drill, on the scratch server"
    if live_bytes and stand_in_bytes:
        emergency = backup * live_bytes / stand_in_bytes
        basis += f"; the emergency backup in proportion to the live database's {units.size(live_bytes)}"
    parallel = max(build, emergency)
    outage = took.write_outage - max(build, backup) + parallel
    return Expected(
        seconds=round(took.plan + parallel + took.of("swap"), 3),
        write_outage=round(max(outage, took.read_outage), 3),
        read_outage=took.read_outage,
        basis=basis,
    )
