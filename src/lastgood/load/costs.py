"""What work costs on a server: defaults, and what finished loads taught."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

# Less tells more of the server's mood than of its speed: bytes of rows of a load, seconds of one kind of effort.
TELLING_BYTES = 20_000_000
TELLING_SECONDS = 0.1
CHEAP = 0.005
SMALL_STATISTICS = 1.0  # of a command: many go in one


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that one worker of a load takes: for a byte of rows loaded and read back, a row and a byte of a table
    that is indexed, a row of a foreign key's table, a command, a byte of commands that are data (large objects,
    INSERTs), a view that is filled, the statistics of a table; and for a byte of a database that is backed up and
    verified meanwhile. The defaults were measured with ``python -m bench`` on 2 processors; their ratios matter more
    than they do.
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
        """What costs no more is mostly the cost of asking for it: a server far away makes much cheap."""
        return max(CHEAP, 10 * self.command)

    def analyzed(self, small: int, others: int) -> float:
        """Seconds for the statistics of so many tables."""
        return small * SMALL_STATISTICS * self.command + others * self.statistics


class Effort(StrEnum):
    """Kinds of work whose costs are learned apart from each other."""

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
    """Seconds of one kind of effort: as they were and as the costs had it."""

    actual: float = 0.0
    expected: float = 0.0

    def add(self, actual: float, expected: float) -> None:
        """Adds one piece of work."""
        self.actual += actual
        self.expected += expected


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a server: the costs, and how many seconds of each effort they were learned from (older ones
    count less)."""

    costs: Costs = Costs()
    learned_from: Mapping[Effort, float] = field(default_factory=dict)

    @property
    def learned(self) -> bool:
        """Whether a load on this server has taught anything of rows: otherwise these are the defaults."""
        return Effort.ROWS in self.learned_from


def learn(known: Known, spent: Mapping[Effort, Spent], size: int) -> Known:
    """What is known after work on ``size`` bytes of rows, a load or a backup: of each cost the mean of what was known
    and what was seen, weighted by the seconds that each comes from. What was known counts half from time to time, so
    that a server that has changed is believed after a few. What is too small to tell teaches nothing.
    """
    if size < TELLING_BYTES:
        return known
    changed: dict[str, float] = {}
    weights = dict(known.learned_from)
    for effort, seconds in spent.items():
        if seconds.actual < TELLING_SECONDS or seconds.expected <= 0:
            continue
        before = weights.get(effort, 0.0) / 2
        factor = (before + seconds.actual * seconds.actual / seconds.expected) / (before + seconds.actual)
        changed.update((name, getattr(known.costs, name) * factor) for name in _COSTS_OF[effort])
        weights[effort] = before + seconds.actual
    return Known(replace(known.costs, **changed), weights)
