"""What ``lastgood recover`` tells, as data: which emergency this is, why, what there is to go back to, what to do."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from lastgood.models import Document, Frozen
from lastgood.plan.plan import TableLoss

Emergency = Literal[
    "server_unreachable",
    "unfinished_run",
    "database_missing",
    "database_closed",
    "no_backup",
    "corrupt_backup",
    "unknown_state",
    "older_state",
]
COUNTERS = "pg_stat_user_tables"
Kind = Literal["rollback", "undo", "reinstate", "by_hand"]


class Reason(Frozen):
    """One thing that was found, and where."""

    text: str
    source: str


class TimelinePoint(Frozen):
    """Something to go back to. ``verdict``: what reading it to its end showed, empty when there was no time for that;
    ``problem`` is what is wrong with it. ``loss``: the tables whose rows differ, null when its content, or the live
    database's, is not known; ``rows_lost``: rows that are there now and were not then, ``written_since`` those of them
    that time stamps tell of; ``estimated``: of some tables the server's estimate was all that there was time for.
    ``number``: its number in the choice at a terminal, null when it has none; ``proposed``: what recover would do."""

    number: int | None
    kind: Literal["dump", "kept"]
    name: str
    path: str
    made_at: datetime
    time_source: str
    migration: str | None
    rows: int | None
    tables: int | None
    verdict: str
    problem: str
    loss: tuple[TableLoss, ...] | None
    estimated: bool
    rows_lost: int | None
    rows_back: int | None
    written_since: int | None
    proposed: bool = False


class Left(Frozen):
    """Something else that is left, and what one can do with it; each command is one line for a shell or psql."""

    kind: str
    what: str
    detail: str
    steps: tuple[str, ...]
    commands: tuple[str, ...]


class LossScope(Frozen):
    """What the database itself remembers of changes: ``source`` says where."""

    table: str
    operation: str
    count: int
    first: datetime | None
    last: datetime | None
    source: str


class Proposal(Frozen):
    """What can be done. ``name`` is the restore point's path, the run to undo, or empty. ``automatic``: recover does it
    itself, with ``--yes`` without asking; otherwise ``commands`` are for a person to run."""

    kind: Kind
    title: str
    detail: str
    name: str
    commands: tuple[str, ...]
    automatic: bool


class Diagnosis(Document):
    """Which emergency this is. ``damaged``: whether the live database itself shows damage. ``statement``: what can't be
    had, in a sentence or two; empty when the first proposal gives everything back that a restore point holds.
    ``places``: the folders in which dumps were looked for, besides the store; empty when that was not needed."""

    live: str
    emergency: Emergency
    title: str
    damaged: bool
    reasons: tuple[Reason, ...]
    timeline: tuple[TimelinePoint, ...]
    left: tuple[Left, ...]
    scope: tuple[LossScope, ...]
    scope_note: str
    proposals: tuple[Proposal, ...]
    statement: str
    places: tuple[str, ...]
    unseen: tuple[str, ...]
    seconds: float

    @property
    def hopeless(self) -> bool:
        """Whether there is nothing to go back to."""
        return not self.proposals
