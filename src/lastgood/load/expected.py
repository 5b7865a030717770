"""The expected duration of a run: from the costs that were learned on the server, otherwise a range by size."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lastgood.context import Context
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.summary import DumpSummary
from lastgood.load import costs
from lastgood.load.costs import Effort
from lastgood.load.schedule import forecast
from lastgood.load.supply import supply_for
from lastgood.postgres.pressure.capacity import capacity
from lastgood.postgres.server import Connection

# The default costs are those of one machine with 2 processors. Others are assumed to take from half the time to four
# times as long.
FASTER, SLOWER = 0.5, 4.0
# The seconds of a run without rows: starting programs, locks, the proof and the switch.
FIXED = 2.0


@dataclass(frozen=True, slots=True)
class ExpectedSeconds:
    """The expected seconds of a ``build`` and of the parallel ``backup``; None if no run on this server was measured
    yet, or if a throttle determines the time. ``between``: a range by size, where nothing was measured."""

    build: float | None = None
    backup: float | None = None
    between: tuple[float, float] | None = None


def expected_seconds(
    connection: Connection, source: DumpSource, summary: DumpSummary, live_bytes: int, context: Context
) -> ExpectedSeconds:
    """The time on this server to build the database (and to read the rows that are not read back during the load), and
    to back up the live one at the same time."""
    known = costs.read(costs_file(connection, context))
    backup = live_bytes * known.costs.backup_byte
    learned = backup if Effort.BACKUP in known.learned_from else None
    if context.pace.throttle is not None:
        return ExpectedSeconds(backup=learned)
    jobs = capacity(connection, jobs=context.pace.jobs).jobs
    with closing(supply_for(source, summary.script, database=summary.database, in_place=not summary.notes)) as supply:
        build = forecast(summary, known.costs, jobs, in_order=supply.in_order)
    if known.learned:
        return ExpectedSeconds(build, learned)
    by_size = FIXED + max(build, backup)
    return ExpectedSeconds(backup=learned, between=(by_size * FASTER, by_size * SLOWER))


def costs_file(connection: Connection, context: Context) -> Path | None:
    """The file with the learned costs of the server, None without a folder for it."""
    return costs.place(context.state, connection) if context.state is not None else None
