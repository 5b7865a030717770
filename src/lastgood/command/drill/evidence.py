"""What a drill leaves: data from which every report of it is made, and which a later change gives away."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from datetime import datetime
from typing import Literal

from lastgood import __version__
from lastgood.facts import CountedTable
from lastgood.journal import caller, person
from lastgood.journal.past_runs import DrillDue
from lastgood.models import Document, Frozen
from lastgood.plan.plan import PlannedPoint
from lastgood.run.report import ProvedTable

Outcome = Literal["done", "failed", "skipped"]


def point_digest(tables: Iterable[CountedTable]) -> str:
    """A SHA-256 over all tables: name, number of rows, content digest."""
    found = sorted((each.schema_name, each.name, each.rows, each.digest or "") for each in tables)
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


class DrillPhase(Frozen):
    """One phase. ``begin`` and ``seconds`` count from the beginning of the drill; phases called ``rollback.build`` lie
    within ``rollback``. ``bytes`` and ``rows``: how much it moved."""

    name: str
    title: str
    begin: float
    seconds: float
    outcome: Outcome
    detail: str = ""
    bytes: int | None = None
    rows: int | None = None


class Proof(Frozen):
    """One thing that a drill has to show, and whether it did; ``said`` is how that is known."""

    name: str
    title: str
    holds: bool
    said: str


class ScratchServer(Frozen):
    """Where it was rehearsed. ``given``: by --server; else it was made for the drill, and is gone. ``system``: the
    cluster's own number, by which it was told from the live one."""

    given: bool
    where: str
    version: str
    system: str | None
    database: str
    roles_made: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Circumstances(Frozen):
    """Who, where, with what. ``command`` is how it was called, without secrets; empty where a program did."""

    user: str
    host: str
    command: str = ""
    lastgood: str
    python: str
    system: str
    processors: int | None

    @classmethod
    def here(cls) -> Circumstances:
        """Those of this process."""
        return cls(
            user=person.user(),
            host=person.host(),
            command=caller.current().command,
            lastgood=__version__,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.release()} ({platform.machine()})",
            processors=os.cpu_count(),
        )


class Failure(Frozen):
    """Why a drill failed: the error of the phase that did."""

    phase: str
    code: str
    message: str
    hint: str
    exit_status: int


class Outages(Frozen):
    """What users would have noticed, in seconds; ``fence`` says how writers were kept out, and how that is known."""

    write: float
    read: float
    fence: str


class Validated(Frozen):
    """What the validation of the restored database said."""

    verdict: Literal["GO", "NO-GO"]
    complete: bool
    rules: int
    blockers: tuple[str, ...]
    warnings: tuple[str, ...]


class Change(Frozen):
    """A phase against the same one of an earlier drill."""

    name: str
    before: float
    now: float
    ratio: float


class Compared(Frozen):
    """The last drill that went well. ``median``: of the last five. ``slower``: so much more than the last one that it
    is no chance, and not by the size alone; ``said`` puts it into words."""

    run: str
    ended: datetime
    before: float
    now: float
    ratio: float
    median: float
    bytes_ratio: float | None
    slower: bool
    said: str
    phases: tuple[Change, ...]


class Expected(Frozen):
    """How long a real rollback to this point would take, from the command to the switch, and from where that is
    known."""

    seconds: float
    write_outage: float
    read_outage: float
    basis: str


class Evidence(Document):
    """A drill. ``status`` is ``passed`` only when every proof holds. ``point_digest``: a SHA-256 over the tables of the
    point with their digests. ``broken``: what was done to the stand-in before. ``left_out``: what a real rollback
    would do and the drill did not."""

    kind: Literal["drill"] = "drill"
    run: str
    status: Literal["passed", "failed"]
    live: str
    began: datetime
    ended: datetime
    seconds: float
    by: Circumstances
    live_server: str | None
    server: ScratchServer
    point: PlannedPoint
    point_digest: str
    point_sha256: str
    phases: tuple[DrillPhase, ...]
    proofs: tuple[Proof, ...]
    tables: tuple[ProvedTable, ...]
    broken: tuple[str, ...]
    outages: Outages | None
    validation: Validated | None
    expected: Expected | None
    compared: Compared | None
    cautions: tuple[str, ...]
    left_out: tuple[str, ...]
    failure: Failure | None
    due: DrillDue | None


class ProvedPoint(Frozen):
    """One restore point that was really restored, or could not be. ``verdict``: that of ``points verify``, or
    ``unproved``: it is whole as a file, and could not be restored or did not come out equal. ``database``: which one of
    a dump of a whole cluster. ``digest``: a SHA-256 over its tables with their digests."""

    name: str
    path: str
    form: str
    database: str | None
    made_at: datetime
    known: bool
    bytes: int
    verdict: Literal[
        "proved", "partial", "incomplete", "corrupt", "unsafe", "foreign", "differs", "unusable", "unproved"
    ]
    message: str = ""
    hint: str = ""
    server_version: str | None = None
    rows: int | None = None
    tables: int | None = None
    counted_only: int = 0
    digest: str | None = None
    seconds: float = 0.0

    @property
    def proved(self) -> bool:
        """Whether it was restored and equals what it should be."""
        return self.verdict == "proved"


class StoreEvidence(Document):
    """All restore points of a store, each really restored. ``status`` is ``passed`` when every one was proved."""

    kind: Literal["store"] = "store"
    run: str
    status: Literal["passed", "failed"]
    live: str
    store: str
    began: datetime
    ended: datetime
    seconds: float
    by: Circumstances
    servers: tuple[ScratchServer, ...]
    points: tuple[ProvedPoint, ...]
    cautions: tuple[str, ...]
