"""The frozen plan of a rollback: its steps, the loss and the findings.

A plan is data. The dry run, the confirmation, the journal and every renderer show this object, and a run executes it.
It holds no secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lastgood.application import Application
from lastgood.checklist import BACKUP, Attestation, Checklist, Override, remedy
from lastgood.checklist import Finding as Finding
from lastgood.config.tables import NO_PGBOUNCER, CheckSettings, Drill, Loss, PgBouncer
from lastgood.context import AS_IT_FITS, Context, Pace, never
from lastgood.errors import Refused, untouched
from lastgood.events import Emit, silent
from lastgood.members import MemberSurvey, UndumpedRows
from lastgood.models import Document, Frozen
from lastgood.plan.loss import Compare, OutsideReference, Revival, TableLoss
from lastgood.postgres.pressure.activity import Sample
from lastgood.postgres.server import Target
from lastgood.text import units

# Only for annotations: at run time they would load the reader of dumps, which `lastgood status` does not need.
if TYPE_CHECKING:
    from lastgood.dump.deferral import Division
    from lastgood.dump.files.formats import DumpSource
    from lastgood.dump.summary import DumpSummary
    from lastgood.facts import Facts
    from lastgood.points import RestorePoint

Fence = Literal["now", "at-swap"]
ReopenWhen = Literal["full", "usable"]
# By name: databases exchange their names. In place: the objects of schemas are exchanged inside one database, which
# need not be renamed.
Way = Literal["by-name", "in-place"]
# What a rollback keeps, in words.
KEPT: dict[Way, str] = {"by-name": "kept database", "in-place": "kept schemas"}


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen restore point: a name or path, or the newest one that matches. All None: the newest valid one."""

    point: str | None = None
    before: datetime | None = None
    before_migration: str | None = None


@dataclass(frozen=True, slots=True)
class CodePolicy:
    """The role that runs code of a restore point: one that is made for the run, or the existing role of the target
    ``build_as``. With a reason in ``trusted``, the operator."""

    trusted: str = ""
    build_as: Target | None = field(default=None, repr=False)


CONFINED = CodePolicy()


@dataclass(frozen=True, slots=True)
class Request:
    """The request of the user. ``target`` names the live database; ``run`` is set to resume a run. ``strict`` and
    ``allow_orphans``: see ``lastgood.load.repairs.Rules``. ``code``: who runs code of the restore point. ``check``: the
    settings of the checklist. ``drill``: the interval of rehearsals. ``database``: the database in a cluster dump, if
    not the live one. ``way``: None for by name where the role can replace the database, and in place where it cannot.
    ``reconnect``: terminate the sessions from before a switch in place. ``schemas``: those that go back in place, if
    not all that the role may exchange. ``compare``: how the plan compares rows; ``loss``: the tables and columns that
    it points out."""

    target: Target
    store: Path
    state: Path
    choice: Choice = Choice()
    fence: Fence = "now"
    reopen_when: ReopenWhen = "full"
    keep_shadow: bool = False
    strict: bool = False
    allow_orphans: bool = False
    code: CodePolicy = CONFINED
    run: str | None = None
    pace: Pace = AS_IT_FITS
    check: CheckSettings = field(default_factory=CheckSettings)
    overrides: tuple[Override, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    application: Application = field(default_factory=Application)
    pgbouncer: PgBouncer = NO_PGBOUNCER
    drill: Drill = field(default_factory=Drill)
    database: str | None = None
    way: Way | None = None
    reconnect: bool = False
    schemas: tuple[str, ...] = ()
    compare: Compare = "count"
    loss: Loss = field(default_factory=Loss)

    def context(self, emit: Emit = silent, cancelled: Callable[[], bool] = never) -> Context:
        """The context of the work that it asks for."""
        return Context(emit, cancelled, self.pace, self.state)

    @property
    def skips_backup(self) -> bool:
        """Whether an override skips the emergency backup."""
        return any(each.item == BACKUP for each in self.overrides)


class PlannedPoint(Frozen):
    """The restore point of the plan. ``time_source``: the source of ``made_at``."""

    path: str
    kind: str
    made_at: datetime
    time_source: str
    bytes: int
    rows: int
    tables: int
    migration: str | None = None
    sha256: str | None = None


class PlannedPause(Frozen):
    """A database of a PgBouncer whose clients are paused during the switch, and up to ``limit`` seconds before it.
    ``pooler`` describes the PgBouncer, ``console`` is its address for psql, ``mode`` the pool mode."""

    pooler: str
    console: str
    database: str
    mode: str
    limit: float


_PLURALS = {
    "index": "indexes",
    "operator class": "operator classes",
    "policy": "policies",
    "foreign table with a program or file": "foreign tables with a program or file",
}


class LaterCode(Frozen):
    """Code of the restore point that runs after the restore. ``owner``: with whose rights, empty if it is not known; an
    event trigger runs with those of any role that triggers it. ``against_live``: whether the live database has the
    same; an equal definition is no proof that it is harmless."""

    kind: Literal[
        "SECURITY DEFINER routine", "table with functions in indexes or statistics", "event trigger", "login trigger"
    ]
    name: str
    owner: str
    superuser: bool
    against_live: Literal["new", "changed", "same", "not compared"]

    @property
    def summary(self) -> str:
        """``SECURITY DEFINER routine public.f(), as superuser "postgres": new``."""
        if self.kind in ("event trigger", "login trigger"):
            rights = (
                ", as each role that triggers it" if self.kind == "event trigger" else ", as each role that logs in"
            )
        else:
            rights = f', as {"superuser" if self.superuser else "role"} "{self.owner}"'
        return f"{self.kind} {self.name}{rights}: {self.against_live}"


class CodeRun(Frozen):
    """Code in the restore point that can run during the restore: the number of ``constructs`` of each kind, and the
    ``role`` that executes it; empty for a role without rights. ``trusted``: the operator's reason for running it with
    the operator's rights. ``later``: code that runs after the restore, as far as a plan compares it."""

    constructs: dict[str, int]
    role: str
    superuser: bool
    trusted: str = ""
    later: tuple[LaterCode, ...] = ()

    @property
    def confined(self) -> bool:
        """Whether a role without rights executes the code."""
        return not self.role

    @property
    def counted(self) -> str:
        """``3 functions, 2 checks``."""
        return ", ".join(units.counted(count, kind, _PLURALS.get(kind, "")) for kind, count in self.constructs.items())

    @property
    def rights(self) -> str:
        """The rights that the code runs with."""
        if self.confined:
            return "only as a role without rights"
        rights = f'as superuser "{self.role}"' if self.superuser else f'with the rights of role "{self.role}"'
        return f"{rights} (trusted: {self.trusted})" if self.trusted else rights

    @property
    def summary(self) -> str:
        """The code and its rights in one line."""
        return f"code in this dump ({self.counted}) can run {self.rights} during the restore"


class PlannedStep(Frozen):
    """One step, described for people; ``effect``: what readers and writers of the live database notice."""

    name: str
    title: str
    effect: str


class Plan(Document):
    """The plan of a rollback. Names of databases are those on the server. ``deferred``: the work after the reopening.
    ``expected_seconds``: the estimate for build and proof, ``expected_backup_seconds`` for the parallel emergency
    backup, based on earlier runs on this server; null without one, and then ``expected_between`` is a range by the
    size of the restore point. ``revivals`` and ``outside``: what comes back to life, and what other systems know of the
    lost rows. ``code``: code in the restore point that can run
    during the build; null if there is none. In place: ``schemas`` go back, ``staying`` do not, and ``shadow`` and
    ``kept`` are the names of staging and kept schemas, with * for the live name."""

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
    way: Way = "by-name"
    schemas: tuple[str, ...] = ()
    staying: tuple[str, ...] = ()
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
    expected_between: tuple[float, float] | None = None
    loss: tuple[TableLoss, ...]
    revivals: tuple[Revival, ...] = ()
    outside: tuple[OutsideReference, ...] = ()
    findings: tuple[Finding, ...]
    checklist: Checklist = Checklist()
    pauses: tuple[PlannedPause, ...] = ()
    steps: tuple[PlannedStep, ...]

    @property
    def refusals(self) -> tuple[Finding, ...]:
        """The findings that stop the run: not overridden, or final."""
        return tuple(finding for finding in self.findings if self.checklist.refuses(finding))

    def refused(self) -> Refused | None:
        """Return the first refusal as an error; None if nothing stops the run."""
        if not self.refusals:
            return None
        first = self.refusals[0]
        hint = remedy(first, self.findings, "Or override it" if first.hint else "Override it")
        state = untouched(self.live, is_open=True)
        return Refused(f'cannot roll back "{self.live}": {first.text}', hint=hint, state=state)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with its sources, which a run needs, too. ``division``: the deferred work, None if nothing may be
    deferred. ``sample``: figures of the live database, if there will be a watch. ``skew``: by how many seconds the
    server's clock was ahead of ours. ``members``: contents of the restore point's extensions that no dump holds;
    ``held``: such rows in the live database."""

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
    members: MemberSurvey = field(default_factory=MemberSurvey)
    held: tuple[UndumpedRows, ...] = ()
