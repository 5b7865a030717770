"""What a rollback did, as data: the document that ``--json`` prints and the journal keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import AliasChoices, Field

from lastgood.application.results import ApplicationReport
from lastgood.checklist import Attestation, Override, Verdict
from lastgood.facts.compare import Comparison
from lastgood.load.deferred.work import Finished
from lastgood.load.repairs import Repaired
from lastgood.models import Document, Frozen
from lastgood.plan.plan import PlannedPoint, TableLoss


class ProvedTable(Frozen):
    """One table of the proof. ``equal`` is null where only the numbers of rows could be compared (they agree)."""

    schema_name: str = Field(serialization_alias="schema", validation_alias=AliasChoices("schema_name", "schema"))
    name: str
    rows: int
    digest: str | None
    equal: bool | None

    @property
    def table(self) -> str:
        """``public.contacts``."""
        return f"{self.schema_name}.{self.name}"


def proved_tables(comparison: Comparison | None) -> tuple[ProvedTable, ...]:
    """The tables of a proof, as data; none of a run that was finished after its swap by another process."""
    return tuple(
        ProvedTable(schema_name=t.schema_name, name=t.name, rows=t.rows, digest=t.digest, equal=t.equal)
        for t in (comparison.tables if comparison is not None else ())
    )


class CarriedOverReport(Frozen):
    """What was taken from the live database because the restore point lacks it: how many ``settings`` of the database
    itself, how many owners and grants (``privileges``), and whose reading was tried."""

    settings: int
    privileges: int
    roles_tried: tuple[str, ...]
    remarks: tuple[str, ...]


class FenceReport(Frozen):
    """How writers were kept out. ``writes_after`` counts rows, null where it can't be told."""

    kind: str
    proof: str
    writes_after: int | None


class Seconds(Frozen):
    """The duration of the plan and of each step that was taken, by its name. ``write_outage``: from the fence to the
    swap's commit; ``read_outage``: the swap's."""

    plan: float
    steps: dict[str, float]
    write_outage: float
    read_outage: float
    total: float

    def of(self, *steps: str) -> float:
        """The sum of consecutive steps; a step that was not taken counts as 0."""
        return sum(self.steps.get(step, 0.0) for step in steps)


class Skipped(Frozen):
    """Commands of the dump that were left out, and why: ``count`` of them, the first at ``line``."""

    what: str
    why: str
    line: int
    count: int


def skipped_of(skipped: Mapping[tuple[str, str], tuple[int, int]]) -> tuple[Skipped, ...]:
    """What a load recorded, as data."""
    return tuple(Skipped(what=what, why=why, line=line, count=count) for (what, why), (line, count) in skipped.items())


class FinishReport(Document):
    """What a run had put off until after the reopening is done: the database lacks nothing any more."""

    run: str
    status: Literal["done"] = "done"
    live: str
    finished: Finished
    seconds: float


def finish_report(run: str, live: str, finished: Finished, seconds: float) -> FinishReport:
    """The report of a resume that had only this left to do."""
    return FinishReport(run=run, live=live, finished=finished, seconds=round(seconds, 3))


class PauseReport(Frozen):
    """How PgBouncer held clients back: of which of its ``databases``, and for how many ``seconds`` in all. ``quiet``:
    all their transactions had ended before the switch; if not, ``cut`` says whose it ended."""

    databases: tuple[str, ...]
    seconds: float
    quiet: bool
    cut: tuple[str, ...]


class Report(Document):
    """A rollback that is done. ``format`` is raised when a field changes its meaning. As JSON: ``document()``.

    ``pause`` is null where no PgBouncer held clients back; ``finished`` is what was done after the reopening, null when
    nothing was put off. ``application`` is null where nothing was to be done about it. ``verdict`` is the checklist's,
    ``overrides`` and ``attestations`` what people answered for. ``loss``: what became of each table, with the rows and
    the content that the emergency backup found."""

    run: str
    status: Literal["done"] = "done"
    point: PlannedPoint
    live: str
    kept: str
    shadow: str
    tables: tuple[ProvedTable, ...]
    carried_over: CarriedOverReport
    fence: FenceReport
    seconds: Seconds
    emergency_backup: str | None
    skipped: tuple[Skipped, ...]
    repaired: tuple[Repaired, ...]
    not_compared: tuple[str, ...]
    pause: PauseReport | None = None
    finished: Finished | None = None
    verdict: Verdict = "GO"
    overrides: tuple[Override, ...] = ()
    attestations: tuple[Attestation, ...] = ()
    application: ApplicationReport | None = None
    loss: tuple[TableLoss, ...] = ()
    undo_command: str
