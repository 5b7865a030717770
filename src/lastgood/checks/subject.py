"""The subject of the checks: the request, the live database and the restore point."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from lastgood.checklist import BACKUP
from lastgood.dump.summary import DumpSummary
from lastgood.facts import Facts
from lastgood.in_place.capabilities import Capabilities, Staying, by_name, probe
from lastgood.in_place.survey import Survey as Objects
from lastgood.in_place.survey import size_bytes
from lastgood.in_place.survey import survey as objects_of
from lastgood.journal.past_runs import PastRun, past_runs
from lastgood.load.expected import ExpectedSeconds
from lastgood.members import Deviation, MemberSurvey, untrusted
from lastgood.members.survey import limited_to, survey
from lastgood.plan.plan import Request, Way
from lastgood.points import MissingPart, OrphanRows, RestorePoint, VerifiedPoint
from lastgood.postgres import clock
from lastgood.postgres.database import Database
from lastgood.postgres.pgbouncer import ConsoleState, consoles
from lastgood.postgres.server import Connection

# Tables, indexes and WAL of a restored database, against the size of the live one.
ROOM_FACTOR = 1.3
# The same for a copy of schemas in their own database, against their size: both copies remain until lastgood prune,
# and the WAL is as large as the rows.
ROOM_FACTOR_IN_PLACE = 2.0


@dataclass(frozen=True, slots=True)
class PointReading:
    """The restore point as far as it was read. ``facts`` and ``summary`` are None where it was not read: then
    ``evidence`` is what was verified instead, in words. Without a ``point``: ``problem`` is the reason, ``hint`` the
    remedy.

    ``lack`` and ``orphans``: the parts of a whole database that it lacks, and rows that refer to them.
    ``unread_rows``: its rows and its SHA-256 are verified while it is loaded.
    ``skipped``: newer ones that failed verification, each with the reason. ``left_out``: a sentence about newer
    emergency backups. ``seconds``: estimates, from earlier loads, of building and proving, and of the emergency backup
    in parallel; None where there is none.
    """

    point: RestorePoint | None = None
    facts: Facts | None = None
    summary: DumpSummary | None = None
    lack: MissingPart | None = None
    orphans: tuple[OrphanRows, ...] = ()
    evidence: str = ""
    problem: str = ""
    hint: str = ""
    skipped: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unread_rows: bool = False
    seconds: tuple[float | None, float | None] = (None, None)

    @classmethod
    def of(
        cls, chosen: VerifiedPoint, expected: ExpectedSeconds, *, skipped: Sequence[str], left_out: Sequence[str]
    ) -> PointReading:
        """That of a restore point that was read to its end."""
        return cls(
            chosen.point,
            chosen.facts,
            chosen.summary,
            chosen.lack,
            chosen.orphans,
            skipped=tuple(skipped),
            left_out=tuple(left_out),
            unread_rows=chosen.source.pending_digest is not None,
            seconds=(expected.build, expected.backup),
        )


def way_of(request: Request, live: Connection) -> Way:
    """The requested way; without a request, in place if this role can switch in no other way."""
    if request.way is not None:
        return request.way
    return "in-place" if not by_name(live) and probe(live).in_place else "by-name"


@dataclass(frozen=True, slots=True)
class InPlaceScope:
    """The scope of an exchange in place: the rights of this role, and the objects of the schemas that are rolled back,
    with their size on disk."""

    capabilities: Capabilities
    survey: Objects
    size_bytes: int

    @classmethod
    def of(cls, live: Connection, only: Collection[str] = ()) -> InPlaceScope:
        """Probe the rights, and survey the schemas, or ``only`` these."""
        capabilities = probe(live)
        if only:
            others = [Staying(each, "it was not selected") for each in capabilities.schemas if each not in only]
            capabilities = replace(
                capabilities,
                schemas=tuple(each for each in capabilities.schemas if each in only),
                staying=(*capabilities.staying, *others),
            )
        return cls(capabilities, objects_of(live, capabilities.schemas), size_bytes(live, capabilities.schemas))


@dataclass(frozen=True, slots=True)
class Subject:
    """``maintenance`` and ``live`` are connections (autocommit) to the maintenance database and to the live one.

    ``now`` is the server's clock. ``past``: earlier successful runs on this machine, the newest first. ``pools``: the
    present state of every PgBouncer named in lastgood.toml. ``members``: changes to the live database's extensions
    that no dump holds. ``in_place``: None if databases exchange their names. ``strict``: see ``untrusted.is_strict``.
    """

    request: Request
    maintenance: Connection
    live: Connection
    database: Database
    reading: PointReading
    now: datetime
    past: tuple[PastRun, ...]
    pools: tuple[ConsoleState, ...]
    members: MemberSurvey
    in_place: InPlaceScope | None = None
    strict: bool = True

    @classmethod
    def of(
        cls, request: Request, maintenance: Connection, live: Connection, database: Database, reading: PointReading
    ) -> Subject:
        """Read the clock, earlier runs and the poolers; for an exchange in place, also the rights and the schemas."""
        in_place = way_of(request, live) == "in-place"
        return cls(
            request,
            maintenance,
            live,
            database,
            reading,
            clock.now(maintenance),
            past_runs(request.state, database.name),
            consoles(request.pgbouncer, request.target.at(database.name), maintenance),
            survey(live, request.target.at(database.name)),
            InPlaceScope.of(live, request.schemas) if in_place else None,
            untrusted.is_strict(request.code.trusted),
        )

    @property
    def staying(self) -> frozenset[str]:
        """The schemas that do not go back."""
        return frozenset(each.schema for each in self.in_place.capabilities.staying) if self.in_place else frozenset()

    @property
    def point(self) -> RestorePoint | None:
        """The restore point."""
        return self.reading.point

    @property
    def facts(self) -> Facts | None:
        """The facts of the restore point."""
        return self.reading.facts

    @property
    def summary(self) -> DumpSummary | None:
        """The summary of the dump, from the same reading."""
        return self.reading.summary

    @property
    def extension_changes(self) -> MemberSurvey:
        """Changes to the restore point's extensions that no dump holds, and that are restored: from its manifest, else
        from the live database."""
        if self.point is not None and self.point.manifest is not None and self.point.manifest.members is not None:
            return untrusted.without_commands(self.point.manifest.members, self.withheld)
        return limited_to(self.members, [each.name for each in self.facts.extensions] if self.facts else [])

    @property
    def withheld(self) -> tuple[Deviation, ...]:
        """The changes of an unsigned manifest that could run code as the operator, and that the live database lacks."""
        if not self.strict or self.point is None or self.point.manifest is None or self.point.manifest.members is None:
            return ()
        return untrusted.withheld(self.point.manifest.members, self.members.departures)

    @property
    def room_needed(self) -> int:
        """Bytes for the restored database or schemas and their WAL. The live ones may be smaller than the restore
        point."""
        bytes_of_point = self.point.size if self.point is not None else 0
        if self.in_place is not None:
            return int(max(self.in_place.size_bytes, bytes_of_point) * ROOM_FACTOR_IN_PLACE)
        return int(max(self.database.size_bytes or 0, bytes_of_point) * ROOM_FACTOR)

    @property
    def until_the_switch(self) -> float | None:
        """The estimate in seconds, from earlier loads on this server; None without them."""
        build, backup = self.reading.seconds
        if build is None:
            return None
        overridden = any(each.item == BACKUP for each in self.request.overrides)
        return build if backup is None or overridden else max(build, backup)
