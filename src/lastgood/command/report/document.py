"""The record of a run, as data: the source of every format of ``lastgood report``."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from lastgood.application.results import HealthResult, HookResult, WatchResult
from lastgood.checklist import Attestation, Override
from lastgood.models import Document, Frozen
from lastgood.plan.loss import OutsideReference, Revival, TableLoss
from lastgood.run.report import ProvedTable


class Participant(Frozen):
    """A person or pipeline that began, resumed or aborted a run. ``ssh`` is the address of their SSH client,
    ``sudo_user`` the user before sudo, ``actor`` the user who started the pipeline and ``job`` its page; each is ""
    if it does not apply or is unknown."""

    at: datetime
    action: Literal["began", "resumed", "aborted"]
    by: str
    host: str
    ssh: str = ""
    sudo_user: str = ""
    actor: str = ""
    job: str = ""
    command: str = ""
    folder: str = ""
    lastgood: str = ""

    @property
    def person(self) -> str:
        """``ann (as root) on db1 from 10.0.0.7``; for a pipeline, its actor and its page."""
        if not self.by:
            return "unknown"
        before = self.actor or self.sudo_user
        name = f"{before} (as {self.by})" if before and before != self.by else self.by
        name += f" on {self.host}" + (f" from {self.ssh}" if self.ssh else "")
        return name + (f", in {self.job}" if self.job else "")


class TimelineEntry(Frozen):
    """One line of the timeline. ``kind`` is ``who``, ``stage``, ``done``, ``failed``, ``undone``, ``caution``,
    ``note``, ``program``, ``hook``, ``health``, ``pause``, ``answer``, ``message`` or ``end``."""

    at: datetime
    kind: str
    text: str
    seconds: float | None = None


class PhaseOfRun(Frozen):
    """A stage with its begin and end; ``ended`` is null if unknown."""

    name: str
    title: str
    begun: datetime
    ended: datetime | None
    outcome: Literal["done", "failed", "begun"]


class RecordedPlan(Frozen):
    """The plan. ``fence``: when writes were blocked; ``expected_seconds``: the estimate for build and proof, null
    without one. ``verdict`` is the checklist's, ``findings`` the failed items and the warnings, each with its level."""

    fence: str
    reopen_when: str
    shadow: str
    kept: str
    expected_seconds: float | None
    verdict: str
    findings: tuple[str, ...]


class RecordedError(Frozen):
    """The error that a run ended with."""

    code: str
    message: str
    hint: str
    state: str
    exit_status: int


class Holding(Frozen):
    """A database or file that the run created or used, and whether it exists now. ``what`` is ``previous database``,
    ``restored database``, ``restore point``, ``emergency backup`` or ``journal``."""

    what: str
    name: str
    now: Literal["present", "missing", "unknown"]
    detail: str = ""


class UndoneBy(Frozen):
    """The run that undid this one."""

    run: str
    at: datetime
    by: str = ""
    host: str = ""


class FollowUpItem(Frozen):
    """An item of the checklist after a run. ``source`` is ``measured``, ``attested by NAME``, or ``unknown``;
    ``command`` completes the item."""

    item: str
    title: str
    done: bool
    source: str
    text: str = ""
    command: str = ""
    at: datetime | None = None


class FollowUp(Frozen):
    """The checklist after a run. ``due``: the due time of the post-mortem, null if none is required."""

    items: tuple[FollowUpItem, ...]
    due: datetime | None
    overdue: bool

    @property
    def open(self) -> tuple[FollowUpItem, ...]:
        """The open items."""
        return tuple(each for each in self.items if not each.done)


class RunRecord(Document):
    """The record of a run. Times are of the server's clock if ``clock`` is ``server``; ``skew``: by how many seconds it
    was ahead of the machine that executed the run.

    ``source`` is ``journal``, or ``server`` if this machine has no journal of the run and only the marks of its
    databases were read. ``undoes``: the run that an undo reverts, "" for others. ``outcome`` is that of
    ``explain RUN``, ``status`` the final status in the journal ("" if it has none), ``state`` a sentence about it.
    ``plan`` and ``report``: the documents that the command printed with ``--json``; null if there was none.
    ``remarks``: what is unknown, and why. ``after`` is null for a run without a checklist.
    """

    run: str
    kind: str
    undoes: str
    live: str
    server: str
    server_version: str
    point: str
    point_made_at: datetime | None
    source: Literal["journal", "server"]
    journal: str
    clock: Literal["server", "machine"]
    skew: float | None
    begun: datetime
    ended: datetime
    seconds: float
    outcome: str
    status: str
    state: str
    reason: str
    error: RecordedError | None
    commands: tuple[str, ...]
    people: tuple[Participant, ...]
    timeline: tuple[TimelineEntry, ...]
    phases: tuple[PhaseOfRun, ...]
    planned: RecordedPlan | None
    loss: tuple[TableLoss, ...]
    revivals: tuple[Revival, ...] = ()
    outside: tuple[OutsideReference, ...] = ()
    proofs: tuple[ProvedTable, ...]
    not_compared: tuple[str, ...]
    overrides: tuple[Override, ...]
    attestations: tuple[Attestation, ...]
    hooks: tuple[HookResult, ...]
    health: HealthResult | None
    watch: WatchResult | None
    figures: dict[str, float]
    holdings: tuple[Holding, ...]
    undone_by: tuple[UndoneBy, ...]
    remarks: tuple[str, ...]
    after: FollowUp | None
    plan: dict[str, Any] | None
    report: dict[str, Any] | None


class RunLine(Frozen):
    """A run in the list of runs. ``outcome`` and ``status`` as in its report; ``seconds`` from its first to its last
    entry. ``undone_by``: the run that undid it, "" if none. ``detail`` qualifies the kind: maintenance on or off, the
    verdict of a validation, the run that an undo reverts."""

    run: str
    kind: str
    begun: datetime
    by: str
    host: str
    live: str
    point: str
    outcome: str
    status: str
    seconds: float
    detail: str = ""
    undone_by: str = ""


class Runs(Document):
    """The runs of this machine, the newest first; ``more``: there are older ones."""

    runs: tuple[RunLine, ...]
    more: bool
