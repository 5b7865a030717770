"""The evidence as typed facts, each with its source. The diagnosis is derived from these alone."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from lastgood.config.tables import Loss
from lastgood.facts import Facts
from lastgood.loss import Content, LiveTable
from lastgood.plan.loss import Compare
from lastgood.points import PointVerdict, RestorePoint
from lastgood.postgres.database import maintenance_name
from lastgood.postgres.server import Target
from lastgood.status import OurDatabase, UnfinishedDeployment, UnfinishedRun

Key = tuple[str, str]
"""Schema and name of a table; or kind and identity of an object."""

Access = Literal["open", "missing", "invalid", "closed", "refused"]


@dataclass(frozen=True, slots=True)
class Goal:
    """The state that the operator asks for. All empty: propose one. ``compare``: how restore points are compared."""

    before: datetime | None = None
    before_migration: str | None = None
    latest: bool = False
    since: datetime | None = None
    thorough: bool = False
    compare: Compare = "count"

    @property
    def chosen(self) -> bool:
        """Whether the wanted state is given."""
        return self.latest or self.before is not None or self.before_migration is not None


@dataclass(frozen=True, slots=True)
class Seen:
    """A sentence without a full stop, and its source."""

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class LockedOut:
    """A login role of an application, and how many of the ``tables`` it can read."""

    role: str
    readable: int
    tables: int


@dataclass(frozen=True, slots=True)
class Live:
    """The live database as it is now. ``objects`` is None if the catalogue could not be read in time.

    ``invalid``: invalid indexes. ``unvalidated``: foreign keys marked NOT VALID. ``migration``: the newest version in
    ``migrations_table``, None if the table is missing or empty. ``content``: for each compared restore point, which
    tables have its rows. ``rules``: what the losses point out.
    """

    tables: dict[Key, LiveTable] = field(default_factory=dict)
    objects: frozenset[Key] | None = None
    invalid: tuple[str, ...] = ()
    unvalidated: tuple[str, ...] = ()
    locked_out: tuple[LockedOut, ...] = ()
    no_grants: tuple[str, ...] = ()
    migration: str | None = None
    migrations: int = 0
    migrations_table: str = ""
    shut: tuple[Seen, ...] = ()
    content: tuple[dict[Key, Content], ...] = ()
    rules: Loss = field(default_factory=Loss)


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of the server, seen from outside the live database. ``error``: why it is unreachable."""

    error: str = ""
    hint: str = ""
    version: str = ""
    clock: datetime | None = None
    standby: bool = False
    access: Access = "open"
    why_closed: str = ""
    bytes: int | None = None
    sessions: int = 0
    read_only: str = ""
    paused: tuple[Seen, ...] = ()
    similar_names: tuple[str, ...] = ()
    platform_roles: tuple[str, ...] = ()
    working: str = ""
    unfinished: tuple[UnfinishedRun, ...] = ()
    kept: tuple[OurDatabase, ...] = ()
    leftovers: tuple[str, ...] = ()
    finishing: tuple[Seen, ...] = ()
    deployment: UnfinishedDeployment | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A restore point of the live database. ``verdict`` is None when it has not been read to its end; ``facts`` are
    those of its manifest, or of that reading."""

    point: RestorePoint
    verdict: PointVerdict | None = None
    facts: Facts | None = None

    @property
    def usable(self) -> bool:
        """Whether no damage is known."""
        return not self.point.problem if self.verdict is None else self.verdict.valid

    @property
    def migration(self) -> str | None:
        """The newest migration in it, None if unknown."""
        return self.facts.migration.version if self.facts is not None and self.facts.migration is not None else None

    @property
    def defect(self) -> str:
        """The damage, as reported by the verification."""
        return self.verdict.message if self.verdict is not None and self.verdict.message else self.point.problem


@dataclass(frozen=True, slots=True)
class Sibling:
    """Another database of the same server with tables of the same names: ``common`` of ``expected``."""

    name: str
    bytes: int | None
    common: int
    expected: int
    migration: str | None
    newest: datetime | None


@dataclass(frozen=True, slots=True)
class Physical:
    """A physical backup or a folder of archived WAL. ``first`` and ``last`` are file times; ``next_step`` is a
    sentence with the first command."""

    kind: str
    path: Path
    detail: str
    first: datetime | None
    last: datetime | None
    next_step: str


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform that hosts the server. ``why``: how it was recognised. ``steps``: its own restore procedure, each a
    sentence with a command, which may be empty."""

    name: str
    title: str
    why: str
    keeps: str
    steps: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The changes that an audit table records for one table and operation."""

    table: str
    operation: str
    count: int
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, slots=True)
class AuditCounts:
    """An audit table, and its changes after ``since`` (None: all). ``why_not``: why it could not be counted."""

    table: str
    recognised: str
    since: datetime | None
    changes: tuple[Change, ...] = ()
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Counter:
    """The server's counters of one table: rows ``deleted`` since ``since``, and ``dead`` rows still in it."""

    table: str
    deleted: int
    dead: int
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All evidence about one live database. ``candidates`` and ``elsewhere`` are newest first. ``unseen``: what could
    not be examined, and why."""

    name: str
    clock: datetime
    goal: Goal
    server: ServerState
    store: Path
    target: Target
    live: Live | None = None
    candidates: tuple[Candidate, ...] = ()
    emergency_backups: tuple[RestorePoint, ...] = ()
    of_others: tuple[str, ...] = ()
    store_problem: str = ""
    siblings: tuple[Sibling, ...] = ()
    elsewhere: tuple[Candidate, ...] = ()
    places: tuple[Path, ...] = ()
    physical: tuple[Physical, ...] = ()
    platform: Platform | None = None
    audit: AuditCounts | None = None
    counters: tuple[Counter, ...] = ()
    last_commit: datetime | None = None
    unseen: tuple[str, ...] = ()

    def psql(self, *commands: str) -> str:
        """Return the psql command that runs SQL in the maintenance database, without any secret."""
        address = str(self.target.at(maintenance_name(self.name)))
        return shlex.join(["psql", address, *(word for command in commands for word in ("-c", command))])
