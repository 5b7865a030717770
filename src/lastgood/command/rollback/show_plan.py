"""The plan that the operator confirms: the steps, the loss and the findings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lastgood.checklist import Checklist, Finding
from lastgood.command.check.show import VERDICTS, counted
from lastgood.command.rollback import show_losses
from lastgood.screen.screen import Screen
from lastgood.text import units

if TYPE_CHECKING:
    from lastgood.plan.plan import Plan, PlannedPause

FENCES = {
    "now": "from the start until the switch; reads continue",
    "at-swap": "only during the switch; rows written until then are in the kept database",
}
IN_PLACE = "only during the switch; rows written until then are in the kept schemas"
NOTHING_OVERRIDDEN = Checklist()
LEVELS = {"refusal": ("REFUSED ", "bold red"), "caution": ("caution ", "yellow"), "note": ("note    ", "")}


def show(screen: Screen, plan: Plan, *, asks: bool = False) -> None:
    """Print the whole plan. Its last lines are the decision, unless a question with it follows (``asks``), and that
    nothing was changed."""
    point = plan.point
    where = f" ({plan.server})" if plan.server else ""
    screen.say(f'Plan: roll back "{plan.live}" to {Path(point.path).name}', style="bold")
    screen.out.print()
    screen.pairs(
        [
            (
                "Live database",
                f'"{plan.live}", {units.size(plan.live_bytes)}, PostgreSQL {plan.server_version}{where}',
            ),
            ("Restore point", point.path),
            ("", f"made {units.moment(point.made_at)} ({units.ago(point.made_at)}; time from its {point.time_source})"),
            (
                "",
                f"{point.kind}, {units.size(point.bytes)}, {units.counted(point.tables, 'table')}, "
                f"{units.counted(point.rows, 'row')}" + (f", migration {point.migration}" if point.migration else ""),
            ),
            (
                "Embedded code",
                f"{plan.code.counted}: can run {plan.code.rights} during the restore" if plan.code else "",
            ),
            *_beside(plan),
            *pauses(plan.pauses),
            ("Deferred", _deferred(plan)),
            ("Expected", show_losses.expected(plan)),
            ("Checklist", _verdict(plan)),
        ],
        {"Checklist": VERDICTS[plan.checklist.verdict]} if plan.checklist.items else {},
    )
    screen.heading("What will be done")
    for number, step in enumerate(plan.steps, 1):
        screen.say(f"{step.title}: {step.effect}" if step.effect else step.title, first=f"  {number:>2}  ", indent=6)
    _later_code(screen, plan)
    show_losses.losses(screen, plan)
    findings(screen, plan.findings, plan.checklist)
    screen.out.print()
    if not asks:
        screen.say(show_losses.decision(plan), style=show_losses.style(plan))
    screen.say("Nothing was changed yet.", style="bold")


def _later_code(screen: Screen, plan: Plan) -> None:
    later = plan.code.later if plan.code is not None else ()
    if not later:
        return
    screen.heading("Code that runs from now on, compared with the live database")
    different = [each for each in later if each.against_live != "same"]
    for each in different[: show_losses.NAMED]:
        screen.say(each.summary, first="  ", indent=4)
    rest = len(different) - show_losses.NAMED
    equal = len(later) - len(different)
    if rest > 0:
        screen.say(f"and {rest} more; --json lists all of them", first="  ", indent=4)
    if equal:
        screen.say(f"{units.counted(equal, 'SECURITY DEFINER routine')} as in the live database", first="  ", indent=4)


def _beside(plan: Plan) -> list[tuple[str, str]]:
    """Describe what is built, what is kept, and who waits."""
    if plan.way == "by-name":
        return [
            ("New database", f'"{plan.shadow}"'),
            ("Kept", f'the current "{plan.live}" remains on the server as "{plan.kept}"; nothing is deleted'),
            ("Writes blocked", FENCES[plan.fence]),
        ]
    return [
        ("Rolled back", f"in place, the objects of {', '.join(plan.schemas)}"),
        ("Not rolled back", ", ".join(plan.staying) if plan.staying else ""),
        ("New schemas", f'"{plan.shadow}"'),
        ("Kept", f'the current objects remain in the schemas "{plan.kept}"; nothing is deleted'),
        ("Writes blocked", IN_PLACE),
    ]


def pauses(planned: Sequence[PlannedPause]) -> list[tuple[str, str]]:
    """Describe the clients that PgBouncer pauses during a switch, one line per database."""
    return [
        (
            "Clients paused" if number == 0 else "",
            f'clients of "{each.database}" of {each.pooler}, during the switch; open transactions have '
            f"{units.duration(each.limit)} to end",
        )
        for number, each in enumerate(planned)
    ]


def _deferred(plan: Plan) -> str:
    if plan.reopen_when == "full":
        return ""
    indexes = sum(each.startswith("index ") for each in plan.deferred)
    return (
        f"{units.counted(indexes, 'unused index', 'unused indexes')}, the server's validation of "
        f"{units.counted(len(plan.deferred) - indexes, 'foreign key')} (verified before), statistics of small tables"
    )


def _verdict(plan: Plan) -> str:
    """Summarise the checklist. The findings follow below; ``lastgood check`` prints all items."""
    checklist = plan.checklist
    if not checklist.items:
        return ""
    summary = f"{checklist.verdict}: {counted(checklist)}"
    for override in checklist.overrides:
        summary += f"; {override.item} overridden by {override.by}: {override.reason}"
    for each in checklist.attestations:
        summary += f"; {each.item} attested by {each.name}"
    return summary


def findings(screen: Screen, found: Sequence[Finding], checklist: Checklist = NOTHING_OVERRIDDEN) -> None:
    """Print the findings of the checks with their hints, refusals first. Overridden refusals are marked."""
    if not found:
        return
    screen.heading("Findings")
    for level, (label, style) in LEVELS.items():
        for finding in found:
            if finding.level == level:
                if level == "refusal" and not checklist.refuses(finding):
                    screen.say(f"{finding.text} (overridden)", first="  caution ", indent=10, style="yellow")
                    continue
                screen.say(finding.text, first=f"  {label}", indent=10, style=style)
                if finding.hint:
                    screen.say(finding.hint, first=" " * 10, indent=10)
