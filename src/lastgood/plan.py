"""The frozen plan of a rollback: what will be done, what will be lost, what speaks against it.

A plan is data. The dry run, the confirmation, the journal and every renderer show this one object; a run does what
it says. It holds no secret.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from lastgood.application import Application
from lastgood.checklist import Attestation, Checklist, Override
from lastgood.checklist import Finding as Finding
from lastgood.config import NO_PGBOUNCER, PgBouncer
from lastgood.config.tables import Check, Drill
from lastgood.documents import Document, Frozen
from lastgood.dump.deferral import Division
from lastgood.dump.formats import DumpSource
from lastgood.dump.summary import DumpSummary
from lastgood.engine.pace import AS_IT_FITS, Pace
from lastgood.errors import Refused
from lastgood.facts import Facts
from lastgood.members import HeldRows, Survey
from lastgood.points import RestorePoint
from lastgood.postgres.activity import Sample
from lastgood.postgres.server import Target

Fence = Literal["now", "at-swap"]
ReopenWhen = Literal["full", "usable"]


@dataclass(frozen=True, slots=True)
class Choice:
    """Which restore point is wanted: a name or path, or the newest that fits. All None means the newest valid one."""

    point: str | None = None
    before: datetime | None = None
    before_migration: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the user asked for. ``target`` names the live database; ``run`` is set when a run is resumed. ``strict`` and
    ``allow_orphans``: see ``lastgood.repairs.Rules``. ``check``: what the checklist goes by. ``drill``: how often the
    procedure is rehearsed. ``database``: which one of a dump of a whole cluster, when not the one that is live."""

    target: Target
    store: Path
    state: Path
    choice: Choice = Choice()
    fence: Fence = "now"
    reopen_when: ReopenWhen = "full"
    keep_shadow: bool = False
    strict: bool = False
    allow_orphans: bool = False
    run: str | None = None
    pace: Pace = AS_IT_FITS
    check: Check = field(default_factory=Check)
    overrides: tuple[Override, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    application: Application = field(default_factory=Application)
    pgbouncer: PgBouncer = NO_PGBOUNCER
    drill: Drill = field(default_factory=Drill)
    database: str | None = None


class PlannedPoint(Frozen):
    """The restore point that the plan goes back to. ``time_source`` says where ``made_at`` comes from."""

    path: str
    kind: str
    made_at: datetime
    time_source: str
    bytes: int
    rows: int
    tables: int
    migration: str | None = None
    sha256: str | None = None


class TableLoss(Frozen):
    """What becomes of one table. A row count is None where the table does not exist on that side.

    ``written_since``: rows of the live table with a time stamp after the newest one in the restore point, by
    column ``by``; None where no column tells. ``not_in_dumps``: rows of an extension's table that no dump holds; a
    rollback copies them from the live database. ``unreadable``: why the live table can't be read, in the server's
    words; then ``live_rows`` is its estimate.
    """

    schema_name: str
    name: str
    live_rows: int | None
    point_rows: int | None
    written_since: int | None = None
    by: str | None = None
    unreadable: str = ""
    not_in_dumps: int = 0


class PlannedPause(Frozen):
    """A database of a PgBouncer whose clients are held back during the switch, for ``limit`` seconds at most before
    it. ``pooler`` says in words which one it is, ``console`` how psql reaches it, ``mode`` how it pools."""

    pooler: str
    console: str
    database: str
    mode: str
    limit: float


class PlannedStep(Frozen):
    """One step, in words for people; ``readers`` and ``writers`` say what the application notices."""

    name: str
    title: str
    effect: str


class Plan(Document):
    """A rollback, before it happens. Names of databases are those on the server. ``deferred`` names what is done after
    the reopening. ``expected_seconds``: how long building and proving would take, ``expected_backup_seconds``: how long
    the emergency backup beside it, by earlier runs on this server; null where there was none."""

    run: str
    made_at: datetime
    server: str
    server_version: str
    live: str
    live_oid: int
    live_bytes: int
    maintenance: str
    shadow: str
    kept: str
    point: PlannedPoint
    fence: Fence
    reopen_when: ReopenWhen = "full"
    deferred: tuple[str, ...] = ()
    keep_shadow: bool
    strict: bool = False
    allow_orphans: bool = False
    carry_owners: bool
    carry_acls: bool
    expected_seconds: float | None = None
    expected_backup_seconds: float | None = None
    loss: tuple[TableLoss, ...]
    findings: tuple[Finding, ...]
    checklist: Checklist = Checklist()
    pauses: tuple[PlannedPause, ...] = ()
    steps: tuple[PlannedStep, ...]

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that stop the run: nobody has overridden them, or nobody can."""
        return tuple(finding for finding in self.findings if self.checklist.stands(finding))

    def refused(self) -> Refused | None:
        """The first of them as an error; None when nothing stops the run."""
        if not self.refusals:
            return None
        first = self.refusals[0]
        hint = first.hint
        if first.item and not first.final:
            before = f"{hint.rstrip('.')}. Or go" if hint else "Go"
            hint = f"{before} on in spite of it: --override {first.item} --reason TEXT"
        return Refused(f'cannot roll back "{self.live}": {first.text}', hint=hint)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with what it was made from: what a run needs beside it. ``division``: what is left for after the
    reopening, None when nothing may be. ``sample``: how the live database did, when there will be a watch. ``skew``: by
    how many seconds the server's clock was ahead of ours. ``members``: what no dump holds of the extensions that the
    restore point makes; ``held``: rows of that kind in the live database."""

    request: Request
    plan: Plan
    point: RestorePoint
    source: DumpSource
    facts: Facts
    summary: DumpSummary
    seconds: float
    division: Division | None = None
    sample: Sample | None = None
    skew: float | None = None
    members: Survey = field(default_factory=Survey)
    held: tuple[HeldRows, ...] = ()
