"""The report of a rollback, as data: printed by ``--json`` and kept in the journal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import AliasChoices, Field

from lastgood.application.results import ApplicationReport
from lastgood.checklist import Attestation, Override, Verdict
from lastgood.facts.compare import FactsComparison
from lastgood.load.deferred.work import Finished
from lastgood.load.repairs import Repaired
from lastgood.models import Document, Frozen
from lastgood.plan.loss import OutsideReference, Revival, TableLoss
from lastgood.plan.plan import CodeRun, PlannedPoint, Way


class ProvedTable(Frozen):
    """One table of the proof. ``equal`` is null where only the row counts could be compared (they are equal)."""

    schema_name: str = Field(serialization_alias="schema", validation_alias=AliasChoices("schema_name", "schema"))
    name: str
    rows: int
    digest: str | None
    equal: bool | None

    @property
    def table(self) -> str:
        """``public.contacts``."""
        return f"{self.schema_name}.{self.name}"


def proved_tables(comparison: FactsComparison | None) -> tuple[ProvedTable, ...]:
    """Return the tables of a proof, as data. Empty if another process finished the run after its swap."""
    return tuple(
        ProvedTable(schema_name=t.schema_name, name=t.name, rows=t.rows, digest=t.digest, equal=t.equal)
        for t in (comparison.tables if comparison is not None else ())
    )


class CarriedOverReport(Frozen):
    """Properties copied from the live database because the restore point lacks them: the number of ``settings`` of the
    database, and of owners and grants (``privileges``). ``roles_tried``: roles whose read access was verified."""

    settings: int
    privileges: int
    roles_tried: tuple[str, ...]
    remarks: tuple[str, ...]


class FenceReport(Frozen):
    """The fence against writes. ``writes_after`` counts rows; null if unknown."""

    kind: str
    proof: str
    writes_after: int | None


class Seconds(Frozen):
    """Durations in seconds of the plan and of each step that ran, by name. ``write_outage``: from the fence to the
    swap's commit; ``read_outage``: of the swap."""

    plan: float
    steps: dict[str, float]
    write_outage: float
    read_outage: float
    total: float

    def of(self, *steps: str) -> float:
        """Return the sum of consecutive steps; a step that did not run counts as 0."""
        return sum(self.steps.get(step, 0.0) for step in steps)


class SkippedCommands(Frozen):
    """Commands of the dump that were skipped, and why: ``count`` of them, the first at ``line``."""

    what: str
    why: str
    line: int
    count: int


def skipped_of(skipped: Mapping[tuple[str, str], tuple[int, int]]) -> tuple[SkippedCommands, ...]:
    """Return the skipped commands of a load, as data."""
    return tuple(
        SkippedCommands(what=what, why=why, line=line, count=count) for (what, why), (line, count) in skipped.items()
    )


class FinishReport(Document):
    """The report of a run's deferred work: the database is complete."""

    run: str
    status: Literal["done"] = "done"
    live: str
    finished: Finished
    seconds: float


class PauseReport(Frozen):
    """The pause of clients by PgBouncer: its ``databases``, and the ``seconds`` in total. ``quiet``:
    all their transactions had ended before the switch; otherwise ``cut`` names the terminated ones."""

    databases: tuple[str, ...]
    seconds: float
    quiet: bool
    cut: tuple[str, ...]


class Report(Document):
    """The report of a completed rollback. ``format`` is raised when a field changes its meaning. As JSON:
    ``document()``.

    ``pause`` is null if no PgBouncer paused clients; ``finished`` is the deferred work, null if there was none.
    ``application`` is null if no hook or check is configured. ``verdict`` is the checklist's; ``overrides`` and
    ``attestations`` are those that people gave. ``loss``: the difference per table between the emergency backup
    and the restore point; ``revivals`` and ``outside`` as in the plan. ``code``: that of the restore point,
    as planned; null if there was none."""

    run: str
    status: Literal["done"] = "done"
    point: PlannedPoint
    live: str
    kept: str
    shadow: str
    way: Way = "by-name"
    tables: tuple[ProvedTable, ...]
    carried_over: CarriedOverReport
    fence: FenceReport
    seconds: Seconds
    emergency_backup: str | None
    skipped: tuple[SkippedCommands, ...]
    repaired: tuple[Repaired, ...]
    not_compared: tuple[str, ...]
    pause: PauseReport | None = None
    finished: Finished | None = None
    verdict: Verdict = "GO"
    overrides: tuple[Override, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    application: ApplicationReport | None = None
    loss: tuple[TableLoss, ...] = ()
    revivals: tuple[Revival, ...] = ()
    outside: tuple[OutsideReference, ...] = ()
    code: CodeRun | None = None
    undo_command: str
