"""The stored measurements: one JSON document, which grows with each run and is the source of the table and the plot.
Units are seconds and bytes; runs are in the order of the rounds."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from bench.costs import Costs


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Run(_Frozen):
    """One run of one contestant. ``parts``: the seconds of its stages, as it reported them."""

    seconds: float
    peak: int
    client: float
    server: float
    wal: int
    parts: dict[str, float] = {}


class Contestant(_Frozen):
    """All runs of one contestant. ``error``: the end of its output if it failed."""

    runs: tuple[Run, ...] = ()
    error: str | None = None

    def median(self, of: Literal["seconds", "client", "server", "wal"] = "seconds") -> float:
        """The median of a figure of its runs; there must be some."""
        return statistics.median(float(getattr(run, of)) for run in self.runs)

    def part(self, *names: str) -> float:
        """The median of the seconds of some stages together; 0 for a contestant that reported none."""
        return statistics.median(sum(run.parts.get(name, 0.0) for name in names) for run in self.runs)

    @property
    def peak(self) -> int:
        """The greatest of all runs."""
        return max(run.peak for run in self.runs)


class Contest(_Frozen):
    """The restores of one data set on one server version. ``plain_bytes``: the size of its plain dump."""

    data: str
    major: int
    version: str
    scale: float
    plain_bytes: int
    database_bytes: int
    made: str
    contestants: dict[str, Contestant]


class Lines(_Frozen):
    """Other measurements: rows of (what, value, remark), and how they were made."""

    how: str
    rows: tuple[tuple[str, str, str], ...]


class Results(_Frozen):
    """All measurements. ``contests`` by ``DATA-MAJOR``; ``growth`` by major, smallest first; ``costs`` by major."""

    machine: str = ""
    contests: dict[str, Contest] = {}
    growth: dict[int, tuple[Contest, ...]] = {}
    costs: dict[int, Costs] = {}
    other: dict[str, Lines] = {}

    @classmethod
    def at(cls, path: Path) -> Results:
        """The results of a file; none when there is no such file. Raises pydantic.ValidationError."""
        return cls.model_validate_json(path.read_bytes()) if path.exists() else cls()

    def written(self, path: Path) -> None:
        """Write them; a missing folder is created."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")
