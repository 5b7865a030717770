"""The costs of work on a server: defaults, and values learned from finished loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

# Smaller samples are mostly noise: bytes of rows of a load, seconds of one kind of effort.
SIGNIFICANT_BYTES = 20_000_000
SIGNIFICANT_SECONDS = 0.1
CHEAP = 0.005
SMALL_STATISTICS = 1.0  # times the cost of a command: one command covers many tables


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of one worker for: a byte of rows loaded and read back, a row and a byte of an indexed table, a row of a
    foreign key's table, a command, a byte of commands that are data (large objects, INSERTs), a refreshed view, the
    statistics of a table; and a byte of a database that is backed up and verified at the same time. The defaults were
    measured with ``python -m bench`` on 2 processors; their ratios matter more than their values.
    """

    load_byte: float = 11e-9
    read_byte: float = 7e-9
    index_row: float = 0.45e-6
    index_byte: float = 1.2e-9
    key_row: float = 0.35e-6
    command: float = 0.5e-3
    data_byte: float = 50e-9
    refresh: float = 0.1
    statistics: float = 0.05
    backup_byte: float = 20e-9

    @property
    def cheap(self) -> float:
        """The limit below which a task costs mostly its round trip to the server: with a distant server many tasks are
        cheap."""
        return max(CHEAP, 10 * self.command)

    def analyzed(self, small: int, others: int) -> float:
        """Seconds for the statistics of ``small`` and ``others`` tables."""
        return small * SMALL_STATISTICS * self.command + others * self.statistics


class Effort(StrEnum):
    """Kinds of work whose costs are learned separately."""

    ROWS = "rows"
    READ = "read back"
    INDEX = "index"
    KEY = "key"
    COMMANDS = "commands"
    DATA = "data"
    REFRESH = "refresh"
    STATISTICS = "statistics"
    BACKUP = "backup"


_COSTS_OF: Mapping[Effort, tuple[str, ...]] = {
    Effort.ROWS: ("load_byte",),
    Effort.READ: ("read_byte",),
    Effort.INDEX: ("index_row", "index_byte"),
    Effort.KEY: ("key_row",),
    Effort.COMMANDS: ("command",),
    Effort.DATA: ("data_byte",),
    Effort.REFRESH: ("refresh",),
    Effort.STATISTICS: ("statistics",),
    Effort.BACKUP: ("backup_byte",),
}


@dataclass(slots=True)
class Spent:
    """Seconds of one kind of effort: actual, and expected from the costs."""

    actual: float = 0.0
    expected: float = 0.0

    def add(self, actual: float, expected: float) -> None:
        """Add one piece of work."""
        self.actual += actual
        self.expected += expected


@dataclass(frozen=True, slots=True)
class Known:
    """The known costs of a server, and the seconds of each effort from which they were learned (older ones count
    less)."""

    costs: Costs = Costs()
    learned_from: Mapping[Effort, float] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Whether the costs of rows were learned from a load on this server; otherwise these are the defaults."""
        return Effort.ROWS in self.learned_from


def learn(known: Known, spent: Mapping[Effort, Spent], size: int) -> Known:
    """The costs after work on ``size`` bytes of rows, a load or a backup: for each the mean of the known and the
    measured value, weighted by their seconds. The weight of the known value is halved each time, so that a changed
    server is reflected after a few loads. Samples that are too small are ignored.
    """
    if size < SIGNIFICANT_BYTES:
        return known
    changed: dict[str, float] = {}
    weights = dict(known.learned_from)
    for effort, seconds in spent.items():
        if seconds.actual < SIGNIFICANT_SECONDS or seconds.expected <= 0:
            continue
        before = weights.get(effort, 0.0) / 2
        factor = (before + seconds.actual * seconds.actual / seconds.expected) / (before + seconds.actual)
        changed.update((name, getattr(known.costs, name) * factor) for name in _COSTS_OF[effort])
        weights[effort] = before + seconds.actual
    return Known(replace(known.costs, **changed), weights)
