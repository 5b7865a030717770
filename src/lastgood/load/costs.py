"""The costs of work on a server: defaults, and values learned from finished loads.

Learned values are in a small file of the state folder.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from pathlib import Path

import psycopg
from xxhash import xxh3_64_hexdigest

from lastgood.postgres.server import Connection
from lastgood.process import durable

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


FOLDER = "costs"
FORMAT = 1
_UPDATING = threading.Lock()


def place(state: Path, connection: Connection) -> Path:
    """The file for the server of ``connection``, named by its system identifier; without the privilege to read that, by
    its address. Needs autocommit."""
    try:
        row = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.errors.InsufficientPrivilege:
        row = None
    if row is not None:
        return state / FOLDER / f"{row[0] % (1 << 64)}.json"
    info = connection.info
    return state / FOLDER / f"at_{xxh3_64_hexdigest(f'{info.host or info.hostaddr}:{info.port}'.encode())}.json"


def read(file: Path | None) -> Known:
    """The content of the file; the defaults if there is none, or it is invalid."""
    if file is None:
        return Known()
    try:
        found = json.loads(file.read_bytes())
        if found["format"] != FORMAT:
            return Known()
        costs = {
            cost.name: _positive(found["costs"][cost.name]) for cost in fields(Costs) if cost.name in found["costs"]
        }
        learned = {Effort(name): _positive(value) for name, value in found["learned_from"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Known()
    return Known(replace(Costs(), **costs), learned)


def _positive(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0:
        return float(value)
    raise ValueError(f"{value!r} is no number of seconds")


def teach(file: Path, spent: Mapping[Effort, Spent], size: int) -> None:
    """Add the measured costs of work on ``size`` bytes. Threads of this process may do so at the same time."""
    with _UPDATING:
        before = read(file)
        after = learn(before, spent, size)
        if after != before:
            write(file, after)


def write(file: Path, known: Known) -> None:
    """Save the costs for the next load. A failure is ignored: the load itself is done, and nothing depends on the
    file."""
    body = {"format": FORMAT, "costs": asdict(known.costs), "learned_from": dict(known.learned_from)}
    with suppress(OSError):
        durable.write_private(file, json.dumps(body, indent=1).encode() + b"\n")
