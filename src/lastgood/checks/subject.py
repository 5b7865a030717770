"""What the checks look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from lastgood.config.tables import Tables
from lastgood.dump.summary import DumpSummary
from lastgood.engine.pace import AS_IT_FITS, Pace
from lastgood.facts import Facts
from lastgood.past_runs import PastRun
from lastgood.plan import Fence
from lastgood.points import RestorePoint
from lastgood.postgres.database import Database
from lastgood.postgres.server import Connection

# Tables, indexes and WAL of a restored database, against the size of the live one.
ROOM_FACTOR = 1.3


@dataclass(frozen=True, slots=True)
class Unread:
    """A restore point that was looked at without reading it: ``looked`` says at what, in words. ``trouble`` says why
    there is none at all, ``hint`` what to do then."""

    looked: str = ""
    trouble: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Subject:
    """``point``, ``facts`` and ``summary`` are None as far as the restore point was not read (``unread``).

    ``now`` is the server's clock. ``passed_over``: newer restore points that are not valid, each with the reason.
    ``seconds``: how long building and proving, and the emergency backup beside it, would take by what loads taught.
    ``past``: earlier runs on this machine that went well, the newest first.
    """

    maintenance: Connection
    live: Connection
    database: Database
    now: datetime
    point: RestorePoint | None
    facts: Facts | None
    summary: DumpSummary | None
    fence: Fence
    store: Path
    pace: Pace = AS_IT_FITS
    tables: Tables = field(default_factory=Tables)
    unread: Unread | None = None
    passed_over: tuple[str, ...] = ()
    seconds: tuple[float | None, float | None] = (None, None)
    past: tuple[PastRun, ...] = ()

    @property
    def room_needed(self) -> int:
        """Bytes that the restored database and its WAL may take. The live one may have lost what the point has."""
        bytes_of_point = self.point.size if self.point is not None else 0
        return int(max(self.database.size_bytes or 0, bytes_of_point) * ROOM_FACTOR)
