"""The result of a validation as data: the document that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from lastgood.command.validate.rule import Mode, Rule, RuleFinding, SkipReason
from lastgood.models import Document, Frozen

Outcome = Literal["PASS", "WARN", "FAIL", "SKIPPED"]


class RuleResult(Frozen):
    """The result of one rule.

    ``violations`` counts rows (or objects); ``rows``: the number of rows checked, if known. ``sampled``: the percentage
    of the table that was read, null for all. ``samples``: up to five, by primary key and the values in question.
    ``query`` lists all violations. ``skipped_for``: why it was not checked: the time limit, a missing privilege, a lock
    of another session, a table too large for --quick, or not possible here. ``guess``: not declared, but inferred from
    names. ``weight`` and ``percent`` (of valid rows): for your own rules only."""

    name: str
    kind: str
    outcome: Outcome
    severity: Literal["blocker", "warning"]
    guess: bool
    message: str
    hint: str
    violations: int
    rows: int | None
    sampled: float | None
    samples: tuple[str, ...]
    query: str
    skipped_for: SkipReason | None
    weight: float | None
    percent: float | None
    seconds: float


class ValidationSummary(Frozen):
    """A validation in other reports: GO or NO-GO, the rules that failed and those that warned. ``complete`` is false if
    rules were skipped that could be checked."""

    verdict: Literal["GO", "NO-GO"]
    complete: bool
    rules: int
    blockers: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float


class ValidationVerdict(Document):
    """GO or NO-GO.

    ``complete`` is false if rules were skipped that could be checked; ``remarks`` name them. ``quality``: the weighted
    percentage of valid rows by your own rules, null without any. ``blockers`` and ``warnings``: names of rules, and
    "quality" if it is below the threshold. ``confined``: code in the database could not use rights of ``role`` outside
    of the database."""

    verdict: Literal["GO", "NO-GO"]
    complete: bool
    mode: Mode
    database: str
    server_version: str
    role: str
    confined: bool = True
    connections: int
    quality: float | None
    threshold: float
    blockers: tuple[str, ...]
    warnings: tuple[str, ...]
    skipped: tuple[str, ...]
    remarks: tuple[str, ...]
    rules: tuple[RuleResult, ...]
    seconds: float

    def worse_than(self, before: ValidationVerdict) -> tuple[RuleResult, ...]:
        """Return the rules that fail or warn now with a worse result or more violations than before. A rule that did
        not exist before, or was skipped, counts as passed before."""
        then = {each.name: each for each in before.rules}
        return tuple(each for each in self.rules if _worse(each, then.get(each.name)))

    @property
    def summary(self) -> ValidationSummary:
        """The summary for other reports."""
        same = self.model_dump(include={"verdict", "complete", "blockers", "warnings", "seconds"})
        return ValidationSummary(**same, rules=len(self.rules))

    def of(self, outcome: Outcome) -> tuple[RuleResult, ...]:
        """Return the results with this outcome, in order."""
        return tuple(each for each in self.rules if each.outcome == outcome)


_RANKS: dict[Outcome, int] = {"PASS": 0, "SKIPPED": 0, "WARN": 1, "FAIL": 2}


def _worse(after: RuleResult, before: RuleResult | None) -> bool:
    rank = _RANKS[after.outcome]
    if rank == 0 or before is None:
        return rank > 0
    return rank > _RANKS[before.outcome] or (rank == _RANKS[before.outcome] and after.violations > before.violations)


QUALITY = "quality"
_SKIPPED: dict[SkipReason, str] = {
    "time": "were skipped because of the time limit",
    "privilege": "need a privilege that the role lacks",
    "locked": "could not be checked because of a lock or an error of the server",
    "size": "are too large for --quick",
}


_OBSTACLES: tuple[SkipReason, ...] = ("time", "privilege", "locked")
# These read only the catalogue, which every role can read; they do not check the data.
_OF_THE_CATALOGUE = ("index", "view", "collation")


def result(rule: Rule, found: RuleFinding, seconds: float) -> RuleResult:
    """Build the result of a rule."""
    percent = found.percent
    outcome = _outcome(rule, found)
    if rule.weight is not None and percent is None and outcome != "SKIPPED":
        percent = 0.0 if outcome in ("FAIL", "WARN") else 100.0
    return RuleResult(
        name=rule.name,
        kind=rule.kind,
        outcome=outcome,
        severity=rule.severity,
        guess=rule.guess,
        message=found.message,
        hint=found.hint,
        violations=found.violations,
        rows=found.rows,
        sampled=found.sampled,
        samples=found.samples,
        query=found.query,
        skipped_for=found.skipped,
        weight=rule.weight,
        percent=percent,
        seconds=round(seconds, 3),
    )


def _outcome(rule: Rule, found: RuleFinding) -> Outcome:
    if found.skipped is not None:
        return "SKIPPED"
    passes = found.violations == 0 if found.passes is None else found.passes
    if passes and not found.failed:
        return "PASS"
    return "FAIL" if rule.severity == "blocker" and not found.mild else "WARN"


def quality_of(results: Iterable[RuleResult]) -> float | None:
    """Return the weighted percentage of valid rows over evaluated rules with a weight; None without any."""
    weighed = [(each.weight, each.percent) for each in results if each.weight is not None and each.percent is not None]
    total = sum(weight for weight, _ in weighed)
    return sum(weight * percent for weight, percent in weighed) / total if total else None


def conclude(
    results: Sequence[RuleResult],
    *,
    mode: Mode,
    database: str,
    server_version: str,
    role: str,
    confined: bool,
    connections: int,
    threshold: float,
    remarks: Sequence[str],
    seconds: float,
) -> ValidationVerdict:
    """Build the verdict: GO, unless a blocker is violated, the quality is too low, or no row could be checked."""
    quality = quality_of(results)
    blockers = [each.name for each in results if each.outcome == "FAIL"]
    if quality is not None and quality < threshold:
        blockers.append(QUALITY)
    skipped = [each for each in results if each.outcome == "SKIPPED"]
    of_rows = [each for each in results if each.kind not in _OF_THE_CATALOGUE]
    nothing_checked = bool(results) and len(skipped) == len(results)
    no_rows = bool(of_rows) and all(each.skipped_for in _OBSTACLES for each in of_rows)
    all_remarks = [*remarks]
    for why, words in _SKIPPED.items():
        count = sum(each.skipped_for == why for each in skipped)
        if count:
            all_remarks.append(f"{count:,} of {len(results):,} rules {words}")
    if nothing_checked:
        all_remarks.append("no rule could be checked, so the verdict is NO-GO")
    elif no_rows:
        all_remarks.append("only the catalogue could be checked, but no rows, so the verdict is NO-GO")
    return ValidationVerdict(
        verdict="NO-GO" if blockers or nothing_checked or no_rows else "GO",
        complete=not any(each.skipped_for in _SKIPPED for each in skipped),
        mode=mode,
        database=database,
        server_version=server_version,
        role=role,
        confined=confined,
        connections=connections,
        quality=None if quality is None else round(quality, 2),
        threshold=threshold,
        blockers=tuple(blockers),
        warnings=tuple(each.name for each in results if each.outcome == "WARN"),
        skipped=tuple(each.name for each in skipped),
        remarks=tuple(all_remarks),
        rules=tuple(results),
        seconds=round(seconds, 3),
    )
