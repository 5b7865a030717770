"""The diagnosis of ``lastgood recover`` as data: the emergency, the reasons, the restore points and the proposals."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from lastgood.models import Document, Frozen
from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import Way

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
Kind = Literal["leave", "rollback", "undo", "reinstate", "by_hand"]


class Reason(Frozen):
    """One finding and its source."""

    text: str
    source: str


class TimelinePoint(Frozen):
    """A restore point or kept database to roll back to. ``verdict``: the result of reading it whole, empty if there was
    no time. ``problem``: its damage. ``loss``: the tables whose rows differ, null if either content is unknown.
    ``rows_lost``, ``rows_back`` and ``rows_changed``: rows that a rollback removes, brings back and changes, as in its
    plan; the minimum unless ``exact``. ``written_since``: rows found by their time stamps. ``estimated``: some row
    counts are estimates of the server. ``number``: its number in the choice at a terminal, null if it has none.
    ``proposed``: recover would choose it. ``way``: of what is kept, whether it is a database (by-name) or schemas.
    ``bytes``: its size on disk, null if unknown."""

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
    rows_changed: int | None = None
    exact: bool = False
    written_since: int | None
    proposed: bool = False
    way: Way | None = None
    bytes: int | None = None


class OtherSource(Frozen):
    """Another source, and how to use it; each command is one line for a shell or psql."""

    kind: str
    what: str
    detail: str
    steps: tuple[str, ...]
    commands: tuple[str, ...]


class LossScope(Frozen):
    """Changes recorded in the database, and their ``source``."""

    table: str
    operation: str
    count: int
    first: datetime | None
    last: datetime | None
    source: str


class Proposal(Frozen):
    """A way out; ``leave``: change nothing, since no damage was found. ``name`` is the restore point's path, the run to
    undo, or empty. ``automatic``: recover carries it out itself, without confirmation with ``--yes``; otherwise an
    operator runs ``commands``."""

    kind: Kind = "by_hand"
    title: str
    detail: str
    name: str = ""
    commands: tuple[str, ...] = ()
    automatic: bool = False


class Diagnosis(Document):
    """The diagnosis. ``timeline``: the restore points, then what is kept on the server, each newest first.
    ``left_out``: emergency backups that are newer than the proposed restore point; they are used only by name.
    ``damaged``: whether the live database itself shows damage. ``statement``: what cannot be recovered, in a sentence
    or two; empty if the first proposal restores all that any restore point holds. ``places``: the folders other than
    the store that were searched for dumps; empty if that was not needed."""

    live: str
    emergency: Emergency
    title: str
    damaged: bool
    reasons: tuple[Reason, ...]
    timeline: tuple[TimelinePoint, ...]
    left_out: tuple[str, ...] = ()
    left: tuple[OtherSource, ...]
    scope: tuple[LossScope, ...]
    scope_note: str
    proposals: tuple[Proposal, ...]
    statement: str
    places: tuple[str, ...]
    unseen: tuple[str, ...]
    seconds: float

    @property
    def unrecoverable(self) -> bool:
        """Whether there is nothing to roll back to."""
        return not self.proposals
