"""The record of a run, as data: what ``lastgood report`` tells of it, whatever it is written as."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from lastgood.application.results import HealthResult, HookResult, WatchResult
from lastgood.checklist import Attestation, Override
from lastgood.models import Document, Frozen
from lastgood.plan.plan import TableLoss
from lastgood.run.report import ProvedTable


class Appearance(Frozen):
    """Somebody who began a run, went on with it, or took it back. ``ssh`` is the address that he came from,
    ``sudo_user`` who he was before, ``actor`` who set off the pipeline and ``job`` its page; "" where that is not so or
    not known."""

    at: datetime
    did: Literal["began", "resumed", "aborted"]
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
        """``ann (as root) on db1 from 10.0.0.7``; of a pipeline, who set it off and where to read about it."""
        if not self.by:
            return "not known"
        before = self.actor or self.sudo_user
        name = f"{before} (as {self.by})" if before and before != self.by else self.by
        name += f" on {self.host}" + (f" from {self.ssh}" if self.ssh else "")
        return name + (f", in {self.job}" if self.job else "")


class Moment(Frozen):
    """One line of the timeline. ``kind`` is ``who``, ``stage``, ``done``, ``failed``, ``undone``, ``caution``,
    ``note``, ``program``, ``hook``, ``health``, ``pause``, ``answer``, ``message`` or ``end``."""

    at: datetime
    kind: str
    text: str
    seconds: float | None = None


class PhaseOfRun(Frozen):
    """A stage, from when to when; ``ended`` is null where nothing says so."""

    name: str
    title: str
    begun: datetime
    ended: datetime | None
    outcome: Literal["done", "failed", "begun"]


class Planned(Frozen):
    """What the plan promised. ``fence``: from when writers were kept out; ``expected_seconds``: how long building and
    proving would take, null where nobody knew. ``verdict`` is the checklist's, ``found`` what spoke against it or was
    worth a thought, each with its level."""

    fence: str
    reopen_when: str
    shadow: str
    kept: str
    expected_seconds: float | None
    verdict: str
    found: tuple[str, ...]


class Problem(Frozen):
    """The error that a run ended with."""

    code: str
    message: str
    hint: str
    state: str
    exit_status: int


class Holding(Frozen):
    """Something that the run left or used, and whether it is there now. ``what`` is ``previous database``, ``restored
    database``, ``restore point``, ``emergency backup`` or ``journal``."""

    what: str
    name: str
    now: Literal["there", "gone", "not known"]
    detail: str = ""


class UndoneBy(Frozen):
    """The run that took this one back."""

    run: str
    at: datetime
    by: str = ""
    host: str = ""


class ItemAfter(Frozen):
    """An item of the checklist after. ``known`` says how: ``measured``, ``answered by`` somebody, or ``not known``;
    ``command`` is what would do it."""

    item: str
    title: str
    done: bool
    known: str
    text: str = ""
    command: str = ""
    at: datetime | None = None


class After(Frozen):
    """The checklist after. ``due`` is when the post-mortem is, null where none is asked for."""

    items: tuple[ItemAfter, ...]
    due: datetime | None
    overdue: bool

    @property
    def open(self) -> tuple[ItemAfter, ...]:
        """What is still to be done."""
        return tuple(each for each in self.items if not each.done)


class RunRecord(Document):
    """All that is known of a run. Times are the server's clock where ``clock`` is ``server``: ``skew`` is by how many
    seconds it was ahead of that of the machine that ran it.

    ``source`` is ``journal``, or ``server`` where this machine has none and only the marks of the run's databases tell.
    ``undoes`` is the run that an undo takes back, "" for others. ``outcome`` is as ``explain RUN`` has it, ``status``
    the last word of the journal itself ("" where it has none); ``state`` says it in a sentence. ``plan`` and ``report``
    are what the command itself printed with ``--json``; null where there was none. ``remarks`` say what is not known,
    and why.
    ``after`` is null for a run that asks for nothing afterwards.
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
    error: Problem | None
    commands: tuple[str, ...]
    people: tuple[Appearance, ...]
    timeline: tuple[Moment, ...]
    phases: tuple[PhaseOfRun, ...]
    planned: Planned | None
    loss: tuple[TableLoss, ...]
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
    after: After | None
    plan: dict[str, Any] | None
    report: dict[str, Any] | None


class RunLine(Frozen):
    """A run in the list of runs. ``outcome`` and ``status`` as in its report; ``seconds`` from its first entry to its
    last. ``undone_by`` is the run that took it back, "" when none did. ``detail`` tells more than the
    kind: which way maintenance was switched, what a validation found, what an undo took back."""

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
    """The runs of this machine, the newest first; ``more`` says whether there are older ones than shown."""

    runs: tuple[RunLine, ...]
    more: bool
