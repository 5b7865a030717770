"""What a deployment did, as data: the document that ``--json`` prints and the journal keeps."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from lastgood.application.results import ApplicationReport
from lastgood.command.validate.validate import RuleResult, Verdict
from lastgood.models import Document, Frozen
from lastgood.plan.plan import TableLoss
from lastgood.run.report import Report
from lastgood.text.units import counted

SAMPLES = 3
Result = Literal["deployed", "unchanged", "rolled back", "not rolled back"]


class CommandReport(Frozen):
    """How the migration ended. only ``program`` is recorded, since its arguments may hold secrets; ``status`` is null
    when it did not end by itself, and ``signal`` the one that ended it. ``output`` is the end of what it printed.
    ``errors``: the first of the server's and psql's errors in all that it printed; ``allowed``: why they are accepted.
    """

    program: str
    status: int | None
    signal: int | None
    seconds: float
    output: str
    sessions_ended: tuple[str, ...] = ()
    processes_ended: int = 0
    errors: tuple[str, ...] = ()
    allowed: str = ""


class Looked(Frozen):
    """What validation found: GO or NO-GO, the rules that failed and those that warned."""

    verdict: Literal["GO", "NO-GO"]
    rules: int
    blockers: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float

    @classmethod
    def of(cls, verdict: Verdict) -> Looked:
        """The short form of a validation."""
        return cls(
            verdict=verdict.verdict,
            rules=len(verdict.rules),
            blockers=verdict.blockers,
            warnings=verdict.warnings,
            seconds=verdict.seconds,
        )


class Worse(Frozen):
    """A rule that did better before the migration."""

    name: str
    outcome: str
    said: str
    violations: int
    samples: tuple[str, ...]
    query: str


def worse_of(after: Verdict, before: Verdict) -> tuple[Worse, ...]:
    """The rules that did better before."""
    return tuple(
        Worse(
            name=each.name,
            outcome=each.outcome,
            said=each.said,
            violations=each.violations,
            samples=each.samples[:SAMPLES],
            query=each.query,
        )
        for each in after.worse_than(before)
    )


def unseen_of(after: Verdict, before: Verdict) -> tuple[RuleResult, ...]:
    """The rules that could be looked at before, and can't be now: the application can't read there either."""
    then = {each.name: each.outcome != "SKIPPED" for each in before.rules}
    # Of what is new, lastgood may have no right to see anything; that somebody has locked it is another matter.
    return tuple(
        each
        for each in after.rules
        if (each.skipped_for == "locked" and then.get(each.name, True))
        or (each.skipped_for == "privilege" and then.get(each.name, False))
    )


def verdict_of(worse: tuple[Worse, ...], after: Verdict, before: Verdict) -> str:
    """Why the migrated database is not good enough; empty when it is. What was bad before is no reason, nor is what
    only warns; what can't be looked at any more is."""
    failed = [each for each in worse if each.outcome == "FAIL"]
    if failed:
        more = f", and {counted(len(failed) - 1, 'other rule')}" if len(failed) > 1 else ""
        return f"the data is worse than before the migration: {failed[0].name}: {failed[0].said}{more}"
    if unseen := unseen_of(after, before):
        more = f", and {counted(len(unseen) - 1, 'other rule')}" if len(unseen) > 1 else ""
        return f"the data can't be looked at any more: {unseen[0].name}: {unseen[0].said}{more}"
    if after.verdict == "NO-GO" and before.verdict == "GO":
        why = ", ".join(after.blockers) or "; ".join(after.remarks[-1:])
        return f"the data is worse than before the migration: NO-GO ({why})"
    return ""


class DeployReport(Document):
    """A deployment that has ended. ``status``: ``deployed``; ``unchanged``: it failed, and the database was shown to be
    as it was; ``rolled back`` by ``rollback`` (its report), to ``point``; or ``not rolled back``. ``problem`` says why
    it failed. ``loss``: tables of which going back took rows away, or brought some back; ``kept`` is the database that
    still has them. ``moved``: sequences that went on, which harms nothing."""

    run: str
    status: Result
    live: str
    label: str
    started: datetime
    problem: str = ""
    point: str
    command: CommandReport | None = None
    before: Looked | None = None
    after: Looked | None = None
    worse: tuple[Worse, ...] = ()
    application: ApplicationReport | None = None
    compared: str = ""
    moved: tuple[str, ...] = ()
    loss: tuple[TableLoss, ...] = ()
    kept: str | None = None
    undo_command: str | None = None
    rollback: Report | None = None
    remarks: tuple[str, ...] = ()
    seconds: dict[str, float]
