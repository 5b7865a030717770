"""The verdict of a validation as text: GO or NO-GO first, then the violations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lastgood.command.validate.validate import KINDS, RuleResult, ValidationVerdict
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

# More would fill the screen; the rest is counted, and the JSON document has all.
SHOWN = 30
# For skipped rules: the numbers of reasons, and of names per reason.
REASONS = 10
NAMES = 8
_TITLES = {kind.name: kind.title for kind in KINDS}


def show(screen: Screen, verdict: ValidationVerdict) -> None:
    """Print the verdict, blockers, quality, warnings, skipped rules, and rules that passed."""
    go = verdict.verdict == "GO"
    screen.say(f'{_headline(verdict)}: "{verdict.database}"', style="bold green" if go else "bold red")
    screen.say(
        f"--{verdict.mode}, {units.counted(len(verdict.rules), 'rule')} in {units.duration(verdict.seconds)} on "
        f"{units.counted(verdict.connections, 'connection')}, as {verdict.role}, PostgreSQL {verdict.server_version}",
        first="  ",
        indent=2,
    )
    _problems(screen, "Blockers", verdict.of("FAIL"), "bold red")
    _quality_line(screen, verdict)
    _problems(screen, "Warnings", verdict.of("WARN"), "yellow")
    _skipped(screen, verdict.of("SKIPPED"))
    _own(screen, [each for each in verdict.rules if each.weight is not None])
    if passed := verdict.of("PASS"):
        screen.heading("Passed")
        counts = Counter(each.kind for each in passed)
        # A rule named like its kind covers all objects of that kind.
        whole_kinds = {each.kind for each in passed if each.name == each.kind}
        passed_kinds = [
            _TITLES[kind] if kind in whole_kinds else f"{_TITLES[kind]} {units.number(count)}"
            for kind, count in counts.items()
        ]
        screen.say(", ".join(passed_kinds), first="  ", indent=2)
        for each in passed:
            if each.message and each.weight is None:
                screen.say(f"{each.name}: {each.message}", first="  note  ", indent=8)
                if each.hint:
                    screen.say(each.hint, first=" " * 8, indent=8)
    if verdict.remarks:
        screen.heading("Remarks")
        for remark in verdict.remarks:
            screen.say(remark, first="  ", indent=4)
    if not go and not verdict.blockers:
        screen.heading("Next")
        screen.say(
            'No violation was found, but the data could not be checked. Resolve the reasons above under "Not checked", '
            "then run lastgood validate again.",
            first="  ",
            indent=4,
        )
    elif not go:
        screen.heading("Next")
        screen.say("lastgood rollback --dry-run shows what a rollback would lose.", first="  ", indent=4)
        screen.say(
            "lastgood validate --json shows for each rule the query that lists all violations.", first="  ", indent=4
        )


def _headline(verdict: ValidationVerdict) -> str:
    parts = []
    if verdict.blockers:
        parts.append(units.counted(len(verdict.blockers), "blocker"))
    if verdict.warnings:
        parts.append(units.counted(len(verdict.warnings), "warning"))
    if not verdict.complete:
        missing = sum(each.skipped_for not in (None, "unavailable") for each in verdict.rules)
        parts.append(f"{units.number(missing)} of {units.counted(len(verdict.rules), 'rule')} NOT checked")
    return f"{verdict.verdict} ({', '.join(parts)})" if parts else verdict.verdict


def _problems(screen: Screen, title: str, results: Sequence[RuleResult], style: str) -> None:
    if not results:
        return
    screen.heading(title)
    for each in results[:SHOWN]:
        screen.say(f"{each.outcome}  {each.name}", first="  ", indent=8, style=style)
        part = f" (of a sample of {each.sampled:g} %)" if each.sampled is not None else ""
        screen.say(f"{each.message}{part}", first=" " * 8, indent=8)
        for sample in each.samples:
            screen.say(sample, first=" " * 10, indent=12)
        if each.hint:
            screen.say(each.hint, first=" " * 8, indent=8)
    screen.more(len(results), SHOWN)


def _skipped(screen: Screen, results: Sequence[RuleResult]) -> None:
    """Print skipped rules, grouped by reason and hint."""
    if not results:
        return
    screen.heading("Not checked")
    groups: dict[tuple[str, str], list[str]] = {}
    for each in results:
        groups.setdefault((each.message, each.hint), []).append(each.name)
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    for (message, hint), names in largest[:REASONS]:
        screen.say(f"SKIPPED  {units.listed(names, NAMES)}", first="  ", indent=11)
        screen.say(message, first=" " * 11, indent=11)
        if hint:
            screen.say(hint, first=" " * 11, indent=11)
    if rest := largest[REASONS:]:
        rules = units.counted(sum(len(names) for _, names in rest), "more rule")
        screen.say(
            f"and {rules} for {units.counted(len(rest), 'other reason')}; --json lists all of them",
            first="  ",
            indent=2,
        )


def _quality_line(screen: Screen, verdict: ValidationVerdict) -> None:
    if verdict.quality is None:
        return
    low = verdict.quality < verdict.threshold
    screen.out.print()
    screen.say(
        f"Quality {verdict.quality:.1f} %, {'BELOW the' if low else 'at or above the'} threshold of "
        f"{verdict.threshold:g} %",
        style="bold red" if low else "bold",
    )


def _own(screen: Screen, results: Sequence[RuleResult]) -> None:
    if not results:
        return
    screen.heading("Your own rules")
    columns = (
        TableColumn("rule", fold=True),
        TableColumn("outcome"),
        TableColumn("valid", right=True),
        TableColumn("weight", right=True),
        TableColumn("result", fold=True),
    )
    screen.table(
        columns,
        [
            (
                each.name,
                each.outcome,
                "" if each.percent is None else f"{each.percent:.1f} %",
                "" if each.weight is None else f"{each.weight:g}",
                each.message,
            )
            for each in results
        ],
    )
