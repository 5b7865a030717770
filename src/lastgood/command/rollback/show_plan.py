"""The plan that the operator confirms: the steps, the loss and the findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lastgood.checklist import BACKUP, Checklist, Finding
from lastgood.command.check.show import counted
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

if TYPE_CHECKING:
    from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import Plan, PlannedPause

# More tables than this fill a screen. The rest is counted; the JSON document lists all tables.
SHOWN = 30
NAMED = 5
FENCES = {
    "now": "from the start until the switch; reads continue",
    "at-swap": "only during the switch; rows written until then are in the kept database",
}
IN_PLACE = "only during the switch; rows written until then are in the kept schemas"
NOTHING_OVERRIDDEN = Checklist()
LEVELS = {"refusal": ("REFUSED ", "bold red"), "caution": ("caution ", "yellow"), "note": ("note    ", "")}


def show(screen: Screen, plan: Plan) -> None:
    """Print the whole plan. Its last line states that nothing was changed."""
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
            ("Expected", _expected(plan)),
            ("Checklist", _verdict(plan)),
        ]
    )
    screen.heading("What will be done")
    for number, step in enumerate(plan.steps, 1):
        screen.say(f"{step.title}: {step.effect}" if step.effect else step.title, first=f"  {number:>2}  ", indent=6)
    _later_code(screen, plan)
    _losses(screen, plan)
    findings(screen, plan.findings, plan.checklist)
    screen.out.print()
    screen.say(decision(plan), style="bold")
    screen.say("Nothing was changed yet.", style="bold")


def _later_code(screen: Screen, plan: Plan) -> None:
    later = plan.code.later if plan.code is not None else ()
    if not later:
        return
    screen.heading("Code that runs from now on, compared with the live database")
    different = [each for each in later if each.against_live != "same"]
    for each in different[:NAMED]:
        screen.say(each.summary, first="  ", indent=4)
    rest = len(different) - NAMED
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


def _expected(plan: Plan) -> str:
    if plan.expected_seconds is None:
        return ""
    if plan.expected_backup_seconds is None:
        return f"{units.roughly(plan.expected_seconds)} to build and prove it, based on earlier runs on this server"
    both = max(plan.expected_seconds, plan.expected_backup_seconds)
    return f"{units.roughly(both)} until the switch, based on earlier runs on this server"


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


def _losses(screen: Screen, plan: Plan) -> None:
    changed = sorted((loss for loss in plan.loss if loss.differs), key=lambda loss: loss.weight, reverse=True)
    screen.heading(f'Changes to "{plan.live}"')
    if not plan.loss:
        unread = any(finding.code == "cannot_read" for finding in plan.findings)
        text = "The tables could not be compared." if unread else "No tables: neither side has any."
        screen.say(text, first="  ", indent=2)
        return
    if not changed:
        _same(screen, plan.loss)
        return
    columns = (
        TableColumn("table", fold=True),
        TableColumn("rows now", right=True),
        TableColumn("restored", right=True),
        TableColumn("lost", right=True),
        TableColumn("returns", right=True),
        TableColumn("changed", right=True),
    )
    screen.table(columns, [_loss(loss) for loss in changed[:SHOWN]])
    if len(changed) > SHOWN:
        screen.say(f"and {len(changed) - SHOWN} more tables; --json lists all of them", first="  ", indent=2)
    _same(screen, plan.loss, other="other ")
    backup = "" if plan.checklist.override(BACKUP) else " and in the emergency backup"
    screen.say(f'All lost rows remain in "{plan.kept}"{backup}.', first="  ", indent=2)


def decision(plan: Plan) -> str:
    """The line that carries the decision: how far back, and the rows that go, change and come back."""
    back = max(0.0, (plan.made_at - plan.point.made_at).total_seconds())
    parts = [f"Goes back {units.duration(back)} (to {units.moment(plan.point.made_at)})", _sum(plan.loss)]
    if plan.fence == "now" and plan.way == "by-name" and plan.expected_seconds is not None:
        both = max(plan.expected_seconds, plan.expected_backup_seconds or 0.0)
        parts.append(f"writers wait {units.roughly(both)}")
    return " · ".join(part for part in parts if part)


def _sum(losses: Sequence[TableLoss]) -> str:
    """``loses 173 rows, changes 40,000, returns 20``; "at least" where rows of some tables were not counted."""
    if not losses:
        return ""
    uncounted = any(loss.content != "equal" and not loss.counted for loss in losses)
    figures = [_rows_at_least(loss) for loss in losses]
    lost, returns, changed = (sum(figure[place] for figure in figures) for place in range(3))
    named = [("loses", lost), ("changes", changed), ("returns", returns)]
    shown = [f"{verb} {units.number(rows)}" for verb, rows in named if rows]
    if not shown:
        return "not all rows were compared" if uncounted else "no row differs"
    first, *others = shown
    first += " row" if first.endswith(" 1") else " rows"
    return ", ".join([first, *others]) + (", and more: not all rows were compared" if uncounted else "")


def _rows_at_least(loss: TableLoss) -> tuple[int, int, int]:
    """Lost, returning and changed rows; the minimum where they were not counted."""
    if loss.counted:
        return loss.lost or 0, loss.returns or 0, loss.changed or 0
    more = (loss.live_rows or 0) - (loss.point_rows or 0)
    return max(more, loss.written_since or 0, 0), max(-more, 0), 0


def _same(screen: Screen, losses: Sequence[TableLoss], other: str = "") -> None:
    """Print the number of equal tables, and the tables whose content was not compared, with the reason."""
    if equal := sum(loss.content == "equal" and not loss.differs for loss in losses):
        table = units.counted(equal, f"{other}table equals", f"{other}tables equal")
        screen.say(f"{table} the restore point in every row.", first="  ", indent=2)
    for text in (*not_compared(losses), *_not_counted(losses)):
        screen.say(text, first="  ", indent=2)


def _not_counted(losses: Sequence[TableLoss]) -> Iterator[str]:
    """Yield a sentence for each reason why the rows of differing tables were not counted."""
    by_reason: dict[str, list[str]] = {}
    for loss in losses:
        if loss.content == "changed" and not loss.counted and loss.why:
            by_reason.setdefault(loss.why, []).append(loss.table)
    for why, names in by_reason.items():
        more = f" and {units.counted(len(names) - NAMED, 'more table')}" if len(names) > NAMED else ""
        yield f"Rows not counted: {', '.join(names[:NAMED])}{more} ({why})."


def not_compared(losses: Sequence[TableLoss]) -> Iterator[str]:
    """Yield a sentence for each reason why the content of tables was not compared, without tables that differ."""
    by_reason: dict[str, list[str]] = {}
    for loss in losses:
        if loss.content == "not compared" and not loss.differs:
            by_reason.setdefault(loss.why, []).append(f"{loss.schema_name}.{loss.name}")
    for why, names in by_reason.items():
        more = f" and {units.counted(len(names) - NAMED, 'more table')}" if len(names) > NAMED else ""
        yield (
            f"Compared by row count only: {', '.join(names[:NAMED])}{more} ({why}). Rows changed in place are not "
            "shown here, but are reverted."
        )


def _loss(loss: TableLoss) -> tuple[str, ...]:
    live, point = loss.live_rows, loss.point_rows
    rows_now = "none" if live is None else units.number(live)
    return (
        f"{loss.schema_name}.{loss.name}",
        f"~ {rows_now}" if loss.estimated else rows_now,
        "none" if point is None else units.number(point),
        *_rows(loss),
    )


def _rows(loss: TableLoss) -> tuple[str, str, str]:
    """The rows that go, come back and change: exact numbers, or what the counts of both sides show."""
    if loss.unreadable:
        return "damaged", "", ""
    if loss.not_in_dumps and loss.live_rows == loss.point_rows:
        return "0", "0", f"{units.number(loss.not_in_dumps)} copied over"
    if loss.counted:
        changed = "no key" if loss.changed is None else units.number(loss.changed)
        return units.number(loss.lost or 0), units.number(loss.returns or 0), changed
    lost, returns, _ = _rows_at_least(loss)
    return _at_least(lost), _at_least(returns), "?"


def _at_least(rows: int) -> str:
    return f"≥ {units.number(rows)}" if rows > 0 else "?"
