"""The frozen plan of a rollback: what will be done, what will be lost, what speaks against it.

A plan is data. The dry run, the confirmation, the journal and every renderer show this one object; a run does what
it says. It holds no secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lastgood.application import Application
from lastgood.checklist import BACKUP, Attestation, Checklist, Override
from lastgood.checklist import Finding as Finding
from lastgood.config.tables import NO_PGBOUNCER, Check, Drill, PgBouncer
from lastgood.context import AS_IT_FITS, Context, Pace, never
from lastgood.errors import Refused, untouched
from lastgood.events import Emit, silent
from lastgood.members import HeldRows, Survey
from lastgood.models import Document, Frozen
from lastgood.postgres.activity import Sample
from lastgood.postgres.server import Target
from lastgood.text import units

# Types of fields alone; at run time they would load the reader of dumps, which `lastgood status` does without.
if TYPE_CHECKING:
    from lastgood.dump.deferral import Division
    from lastgood.dump.formats import DumpSource
    from lastgood.dump.summary import DumpSummary
    from lastgood.facts import Facts
    from lastgood.points import RestorePoint

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
    ``allow_orphans``: see ``lastgood.load.repairs.Rules``. ``check``: what the checklist goes by. ``drill``: how often
    the procedure is rehearsed. ``database``: which one of a dump of a whole cluster, when not the one that is live."""

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

    def context(self, emit: Emit = silent, cancelled: Callable[[], bool] = never) -> Context:
        """The context of the work that it asks for."""
        return Context(emit, cancelled, self.pace, self.state)

    @property
    def skips_backup(self) -> bool:
        """Whether an override leaves the emergency backup out."""
        return any(each.item == BACKUP for each in self.overrides)


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
    """What becomes of one table. A row count is None where the table does not exist on that side, and for the live one
    where it is not known; ``estimated``: it is the server's estimate.

    ``written_since``: rows of the live table that were written after the restore point, by column ``by``; None where no
    column shows it. ``content``: whether its rows are those of the restore point; None where only one side has the
    table. ``why``: why they were not compared, or the other evidence that they changed. ``not_in_dumps``: rows of an
    extension's table that no dump holds; a rollback copies them from the live database. ``unreadable``: why the live
    table can't be read, in the server's words.
    """

    schema_name: str
    name: str
    live_rows: int | None
    point_rows: int | None
    estimated: bool = False
    written_since: int | None = None
    by: str | None = None
    content: Literal["equal", "changed", "not compared"] | None = None
    why: str = ""
    unreadable: str = ""
    not_in_dumps: int = 0

    @property
    def table(self) -> str:
        """``public.contacts``."""
        return f"{self.schema_name}.{self.name}"

    @property
    def differs(self) -> bool:
        """Whether it is known that going back makes a difference to it."""
        return (
            self.live_rows != self.point_rows
            or bool(self.written_since)
            or self.content == "changed"
            or bool(self.not_in_dumps)
        )

    @property
    def in_place(self) -> bool:
        """Whether only the content of rows differs, not their number."""
        return self.content == "changed" and self.live_rows == self.point_rows

    @property
    def weight(self) -> int:
        """How many rows differ at least, by what was counted."""
        return max(abs((self.live_rows or 0) - (self.point_rows or 0)), self.written_since or 0, self.not_in_dumps)


class PlannedPause(Frozen):
    """A database of a PgBouncer whose clients are held back during the switch, for ``limit`` seconds at most before
    it. ``pooler`` says in words which one it is, ``console`` how psql reaches it, ``mode`` how it pools."""

    pooler: str
    console: str
    database: str
    mode: str
    limit: float


_PLURALS = {
    "index": "indexes",
    "policy": "policies",
    "foreign table with a program or file": "foreign tables with a program or file",
}


class CodeRun(Frozen):
    """Code in the restore point that can run while it is restored: how many ``constructs`` of each kind, and the
    ``role`` with whose rights."""

    constructs: dict[str, int]
    role: str
    superuser: bool

    @property
    def counted(self) -> str:
        """``3 functions, 2 checks``."""
        return ", ".join(units.counted(count, kind, _PLURALS.get(kind, "")) for kind, count in self.constructs.items())

    @property
    def rights(self) -> str:
        """With whose rights."""
        return f'as superuser "{self.role}"' if self.superuser else f'with the rights of role "{self.role}"'

    @property
    def said(self) -> str:
        """In one line."""
        return f"code in this dump ({self.counted}) can run {self.rights} during the restore"


class PlannedStep(Frozen):
    """One step, in words for people; ``effect`` says what readers and writers of the live database notice."""

    name: str
    title: str
    effect: str


class Plan(Document):
    """A rollback, before it happens. Names of databases are those on the server. ``deferred`` names what is done after
    the reopening. ``expected_seconds``: how long building and proving would take, ``expected_backup_seconds``: how long
    the emergency backup in parallel, by earlier runs here; null where there was none. ``code``: what of the
    restore point can run as code while it is built; null where nothing can."""

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
    code: CodeRun | None = None
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
            before = f"{hint.rstrip('.')}. Or override" if hint else "Override"
            hint = f"{before} it: --override {first.item} --reason TEXT"
        state = untouched(self.live, is_open=True)
        return Refused(f'cannot roll back "{self.live}": {first.text}', hint=hint, state=state)


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
