"""What the checks look at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from lastgood.checklist import BACKUP
from lastgood.dump.summary import DumpSummary
from lastgood.facts import Facts
from lastgood.journal.past_runs import PastRun, past_runs
from lastgood.members import Survey
from lastgood.members.survey import of_extensions, survey
from lastgood.plan.plan import Request
from lastgood.points import Lack, Orphans, RestorePoint
from lastgood.postgres.database import Database
from lastgood.postgres.mark import server_clock
from lastgood.postgres.pgbouncer import ConsoleState, consoles
from lastgood.postgres.server import Connection

# Tables, indexes and WAL of a restored database, against the size of the live one.
ROOM_FACTOR = 1.3


@dataclass(frozen=True, slots=True)
class Reading:
    """What is known of the restore point. ``facts`` and ``summary`` are None as far as it was not read: then ``looked``
    is what was read instead, in words. Without a ``point``: ``trouble`` is the reason, ``hint`` what to do.

    ``lack`` and ``orphans``: what it does not hold of a whole database, and rows that refer to that.
    ``owing``: its rows and its SHA-256 are verified while it is loaded.
    ``passed_over``: newer ones that are not valid, each with the reason. ``seconds``: how long building and proving,
    and the emergency backup beside it, would take by what loads taught; None where they did not.
    """

    point: RestorePoint | None = None
    facts: Facts | None = None
    summary: DumpSummary | None = None
    lack: Lack | None = None
    orphans: tuple[Orphans, ...] = ()
    looked: str = ""
    trouble: str = ""
    hint: str = ""
    passed_over: tuple[str, ...] = ()
    owing: bool = False
    seconds: tuple[float | None, float | None] = (None, None)


@dataclass(frozen=True, slots=True)
class Subject:
    """``maintenance`` and ``live`` are connections (autocommit) to the maintenance database and to the live one.

    ``now`` is the server's clock. ``past``: earlier runs on this machine that went well, the newest first. ``pools``:
    every PgBouncer that is named in lastgood.toml, as it is now. ``members``: what no dump holds of the live database's
    extensions.
    """

    request: Request
    maintenance: Connection
    live: Connection
    database: Database
    reading: Reading
    now: datetime
    past: tuple[PastRun, ...]
    pools: tuple[ConsoleState, ...]
    members: Survey

    @classmethod
    def of(
        cls, request: Request, maintenance: Connection, live: Connection, database: Database, reading: Reading
    ) -> Subject:
        """Looks at the clock, at earlier runs and at the poolers."""
        return cls(
            request,
            maintenance,
            live,
            database,
            reading,
            server_clock(maintenance),
            past_runs(request.state, database.name),
            consoles(request.pgbouncer, request.target.at(database.name), maintenance),
            survey(live, request.target.at(database.name)),
        )

    @property
    def point(self) -> RestorePoint | None:
        """The restore point."""
        return self.reading.point

    @property
    def facts(self) -> Facts | None:
        """What it contains."""
        return self.reading.facts

    @property
    def summary(self) -> DumpSummary | None:
        """What reading it told besides."""
        return self.reading.summary

    @property
    def to_put_back(self) -> Survey:
        """What no dump holds of the extensions that the restore point makes: as its manifest has it, else as it is in
        the live database."""
        if self.point is not None and self.point.manifest is not None and self.point.manifest.members is not None:
            return self.point.manifest.members
        return of_extensions(self.members, [each.name for each in self.facts.extensions] if self.facts else [])

    @property
    def room_needed(self) -> int:
        """Bytes that the restored database and its WAL may take. The live one may have lost what the point has."""
        bytes_of_point = self.point.size if self.point is not None else 0
        return int(max(self.database.size_bytes or 0, bytes_of_point) * ROOM_FACTOR)

    @property
    def until_the_switch(self) -> float | None:
        """Seconds, by what loads taught of this server; None where they did not."""
        build, backup = self.reading.seconds
        if build is None:
            return None
        overridden = any(each.item == BACKUP for each in self.request.overrides)
        return build if backup is None or overridden else max(build, backup)
