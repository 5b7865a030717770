"""The reports of a deployment and of a trial as data.

``--json`` prints these documents; the journal keeps the report of a deployment.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from lastgood.application.results import ApplicationReport
from lastgood.command.validate.validate import RuleResult, ValidationSummary, ValidationVerdict
from lastgood.facts import Facts
from lastgood.models import Document, Frozen
from lastgood.plan.loss import TableLoss
from lastgood.run.report import Report
from lastgood.text.units import counted

SAMPLES = 3
Result = Literal["deployed", "unchanged", "rolled back", "not rolled back"]


class CommandReport(Frozen):
    """The end of the migration. Only ``program`` is recorded, because its arguments may hold secrets. ``status`` is
    null if it did not exit by itself; ``signal`` is the one that killed it. ``output``: the end of its output.
    ``errors``: the first errors of the server and of psql in its output. ``allowed``: why they are accepted."""

    program: str
    status: int | None
    signal: int | None
    seconds: float
    output: str
    sessions_ended: tuple[str, ...] = ()
    processes_ended: int = 0
    errors: tuple[str, ...] = ()
    allowed: str = ""


class Worse(Frozen):
    """A rule with a better result before the migration."""

    name: str
    outcome: str
    message: str
    violations: int
    samples: tuple[str, ...]
    query: str


def worse_of(after: ValidationVerdict, before: ValidationVerdict) -> tuple[Worse, ...]:
    """Return the rules with a better result before."""
    return tuple(
        Worse(
            name=each.name,
            outcome=each.outcome,
            message=each.message,
            violations=each.violations,
            samples=each.samples[:SAMPLES],
            query=each.query,
        )
        for each in after.worse_than(before)
    )


def unseen_of(after: ValidationVerdict, before: ValidationVerdict) -> tuple[RuleResult, ...]:
    """Return the rules that could be checked before, but not now: the application cannot read these tables either."""
    then = {each.name: each.outcome != "SKIPPED" for each in before.rules}
    # A missing privilege is accepted on new tables, a lock held by another session is not.
    return tuple(
        each
        for each in after.rules
        if (each.skipped_for == "locked" and then.get(each.name, True))
        or (each.skipped_for == "privilege" and then.get(each.name, False))
    )


def verdict_of(worse: tuple[Worse, ...], after: ValidationVerdict, before: ValidationVerdict) -> str:
    """Return why the migrated database fails; empty if it passes. Failures that existed before and warnings do not
    count; tables that can no longer be read do."""
    failed = [each for each in worse if each.outcome == "FAIL"]
    if failed:
        more = f", and {counted(len(failed) - 1, 'other rule')}" if len(failed) > 1 else ""
        return f"the data is worse than before the migration: {failed[0].name}: {failed[0].message}{more}"
    if unseen := unseen_of(after, before):
        more = f", and {counted(len(unseen) - 1, 'other rule')}" if len(unseen) > 1 else ""
        return f"the data can no longer be checked: {unseen[0].name}: {unseen[0].message}{more}"
    if after.verdict == "NO-GO" and before.verdict == "GO":
        why = ", ".join(after.blockers) or "; ".join(after.remarks[-1:])
        return f"the data is worse than before the migration: NO-GO ({why})"
    return ""


class ChangedTable(Frozen):
    """A table that the migration changes. A row count is null if the table does not exist. ``content``: whether the
    rows differ in the columns that both have; null if that is unknown. ``added``, ``deleted`` and ``changed``: exact
    numbers of rows, null where they were not counted, ``changed`` also without a key. ``why``: why rows were not
    compared or counted."""

    schema_name: str = Field(serialization_alias="schema")
    name: str
    rows_before: int | None
    rows_after: int | None
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    content: bool | None
    added: int | None = None
    deleted: int | None = None
    changed: int | None = None
    why: str = ""


class DeployReport(Document):
    """A deployment that has ended. ``status``: ``deployed``; ``unchanged``: it failed, and the database was shown to
    equal its state before; ``rolled back``: by ``rollback`` (its report), to ``point``; or ``not rolled back``.
    ``problem``: the failure. ``tables``: what changed since the restore point, by the migration or meanwhile. ``loss``:
    tables whose rows the rollback removed or restored; ``kept`` is the database that still has them. ``moved``:
    sequences that advanced, which is harmless."""

    run: str
    status: Result
    live: str
    label: str
    started: datetime
    problem: str = ""
    point: str
    command: CommandReport | None = None
    before: ValidationSummary | None = None
    after: ValidationSummary | None = None
    worse: tuple[Worse, ...] = ()
    application: ApplicationReport | None = None
    compared: str = ""
    moved: tuple[str, ...] = ()
    tables: tuple[ChangedTable, ...] = ()
    loss: tuple[TableLoss, ...] = ()
    kept: str | None = None
    undo_command: str | None = None
    rollback: Report | None = None
    remarks: tuple[str, ...] = ()
    seconds: dict[str, float]


class HeldLock(Frozen):
    """A lock of the migration on an existing table, held for about ``seconds``; ``blocks`` names the sessions that
    would wait. ``bytes`` and ``rows`` of the table are estimates of the server."""

    table: str
    mode: str
    blocks: str
    seconds: float
    bytes: int
    rows: int


class TrialReport(Document):
    """The effects of the migration on a clone of the live database. ``problem`` is empty if it succeeded and the data
    is no worse. ``added``, ``removed`` and ``changed`` name schema objects, each with its kind."""

    run: str
    live: str
    problem: str
    command: CommandReport
    before: ValidationSummary | None
    after: ValidationSummary | None
    worse: tuple[Worse, ...]
    tables: tuple[ChangedTable, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    migration_before: str | None
    migration_after: str | None
    locks: tuple[HeldLock, ...]
    seconds: dict[str, float]


def objects_of(facts: Facts, now: Facts) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Return schema objects that are new, removed, or changed."""
    then = {(each.kind, each.identity): each.digest for each in facts.objects}
    later = {(each.kind, each.identity): each.digest for each in now.objects}
    names = [sorted(later.keys() - then.keys()), sorted(then.keys() - later.keys())]
    names.append(sorted(key for key in then.keys() & later.keys() if then[key] != later[key]))
    added, removed, changed = (tuple(f"{kind} {identity}" for kind, identity in each) for each in names)
    return added, removed, changed
