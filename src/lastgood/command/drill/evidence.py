"""A drill: its request, and the evidence behind all its reports, protected against undetected changes."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from lastgood import __version__
from lastgood.command.validate.validate import ValidationSummary
from lastgood.config.tables import Validate
from lastgood.facts import CountedTable
from lastgood.journal import caller
from lastgood.journal.past_runs import DrillDue
from lastgood.models import Document, Frozen
from lastgood.plan.plan import PlannedPoint, Request
from lastgood.postgres.server import Target
from lastgood.run.report import ProvedTable

Outcome = Literal["done", "failed", "skipped"]


def point_digest(tables: Iterable[CountedTable]) -> str:
    """Return a SHA-256 over all tables: name, number of rows, content digest."""
    found = sorted((each.schema_name, each.name, each.rows, each.digest or "") for each in tables)
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


class DrillPhase(Frozen):
    """One phase. ``begin`` counts from the start of the drill; a phase like ``rollback.build`` is part of ``rollback``.
    ``bytes`` and ``rows``: how much was transferred."""

    name: str
    title: str
    begin: float
    seconds: float
    outcome: Outcome
    detail: str = ""
    bytes: int | None = None
    rows: int | None = None


class DrillProof(Frozen):
    """One required result of a drill, and whether it holds; ``evidence`` proves it."""

    name: str
    title: str
    holds: bool
    evidence: str


class ScratchServer(Frozen):
    """The scratch server. ``given``: by --server; otherwise it was created for the drill and removed. ``system``: the
    system identifier, which distinguishes it from the live server."""

    given: bool
    where: str
    version: str
    system: str | None
    database: str
    roles_made: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


class Circumstances(Frozen):
    """The user, the machine and the versions. ``command``: the command line without secrets, empty for the API."""

    user: str
    host: str
    command: str = ""
    lastgood: str
    python: str
    system: str
    processors: int | None

    @classmethod
    def here(cls) -> Circumstances:
        """Return those of this process."""
        return cls(
            user=caller.user(),
            host=caller.host(),
            command=caller.current().command,
            lastgood=__version__,
            python=platform.python_version(),
            system=f"{platform.system()} {platform.release()} ({platform.machine()})",
            processors=os.cpu_count(),
        )


class Failure(Frozen):
    """The failure of a drill: the error of the failed phase."""

    phase: str
    code: str
    message: str
    hint: str
    exit_status: int


class Outages(Frozen):
    """The outages that users would have noticed, in seconds; ``fence``: how writes were blocked, with the proof."""

    write: float
    read: float
    fence: str


class PhaseChange(Frozen):
    """A phase compared with the same one of an earlier drill."""

    name: str
    before: float
    now: float
    ratio: float


class Compared(Frozen):
    """The comparison with the last successful drill. ``median``: of the last five. ``slower``: significantly slower
    than the last one, and not only because of the size. ``summary``: the comparison in words."""

    run: str
    ended: datetime
    before: float
    now: float
    ratio: float
    median: float
    bytes_ratio: float | None
    slower: bool
    summary: str
    phases: tuple[PhaseChange, ...]


class Expected(Frozen):
    """The estimate for a real rollback to this point, from the command to the switch, and its basis."""

    seconds: float
    write_outage: float
    read_outage: float
    basis: str


class DrillEvidence(Document):
    """The evidence of a drill. ``status`` is ``passed`` only if every proof holds. ``point_digest``: a SHA-256 over the
    tables of the point with their digests. ``schemas``: those exchanged in place; none if databases exchanged their
    names. ``broken``: how the stand-in was damaged. ``left_out``: steps of a real rollback that the drill skipped."""

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
    proofs: tuple[DrillProof, ...]
    tables: tuple[ProvedTable, ...]
    schemas: tuple[str, ...] = ()
    broken: tuple[str, ...]
    outages: Outages | None
    validation: ValidationSummary | None
    expected: Expected | None
    compared: Compared | None
    cautions: tuple[str, ...]
    left_out: tuple[str, ...]
    failure: Failure | None
    due: DrillDue | None


class ProvedPoint(Frozen):
    """The test restore of one restore point. ``verdict``: that of ``points verify``, or ``unproved``: the file is
    complete, but could not be restored or was not equal. ``database``: the database in a dump of a whole cluster.
    ``digest``: a SHA-256 over its tables with their digests."""

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
        """Whether it was restored and proved equal."""
        return self.verdict == "proved"


class StoreEvidence(Document):
    """The evidence of the test restores of a store. ``status`` is ``passed`` if every point was proved."""

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


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """The request of a drill. ``live`` names the live database, which is not touched, the store, the state folder and
    the restore point.

    ``server``: an existing scratch server to use. ``folder``: the data folder of a created one. ``validation``: the
    rules for the restored data. ``signed_off_by``: who signs off the evidence."""

    live: Request
    server: Target | None = None
    folder: Path | None = None
    validation: Validate = field(default_factory=Validate)
    signed_off_by: str | None = None
