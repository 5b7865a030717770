"""The growth of the time of a restore with the size of the dump."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench import contest
from bench.contestants import LASTGOOD, PSQL
from bench.data import dumps
from bench.results import Contest

DATA = "crm"
# Plain dumps of 0.1, 0.3, 0.6 and 1.2 GB.
SCALES = (1 / 12, 1 / 4, 1 / 2, 1.0)


def measured(
    folder: Path, major: int, scale: float, rounds: int, log: Callable[[str], None], parts: Sequence[float] = SCALES
) -> tuple[Contest, ...]:
    """lastgood and psql with the CRM at ``scale`` times each of ``parts``, smallest first. ``folder`` keeps the dumps.

    Raises what making dumps raises.
    """
    return tuple(
        contest.held(
            dumps.kept(folder, DATA, scale * part, major),
            name=DATA,
            major=major,
            scale=scale * part,
            rounds=rounds,
            who=(PSQL, LASTGOOD),
            log=log,
        )
        for part in parts
    )


def off_the_line(contests: tuple[Contest, ...], contestant: str = LASTGOOD) -> float | None:
    """The extra cost of a byte of the largest dump over a byte of the smallest: 0.1 is 10 % more, and -0.1 less. None
    when they were not measured, or are the same dump."""
    ends = (contests[0], contests[-1]) if contests[1:] else ()
    ran = [(who, end.plain_bytes) for end in ends if (who := end.contestants.get(contestant)) and who.runs]
    costs = [who.median() / size for who, size in ran]
    return costs[1] / costs[0] - 1 if len(costs) == 2 else None
