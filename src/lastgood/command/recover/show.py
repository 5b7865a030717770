"""A diagnosis as somebody reads it at three in the morning: the emergency, why, what there is, what to do."""

from __future__ import annotations

from collections.abc import Sequence

from lastgood.command.recover.reinstate import ReinstateReport
from lastgood.command.recover.report import COUNTERS, Diagnosis, Left, LossScope, Proposal, TimelinePoint
from lastgood.plan.plan import TableLoss
from lastgood.screen.screen import Column, Screen
from lastgood.text import units

# More points than this fill a screen; the JSON document has all of them.
SHOWN = 12
TABLES = 4
REASONS = 2


def show(screen: Screen, found: Diagnosis) -> None:
    """The whole diagnosis."""
    screen.say(f"Emergency: {found.title}", style="bold")
    if found.reasons:
        screen.heading("Why")
        by_source: dict[str, list[str]] = {}
        for reason in found.reasons:
            by_source.setdefault(reason.source, []).append(reason.text)
        for source, texts in by_source.items():
            screen.say(f"by {source}:", first="  ", indent=4)
            for text in texts:
                screen.say(text, first="  - ", indent=4)
    _timeline(screen, found.timeline)
    if found.left:
        screen.heading("What else was found")
        for each in found.left:
            _left(screen, each)
    if found.scope or found.scope_note:
        _scope(screen, found.scope, found.scope_note)
    if found.places:
        screen.heading("Where dumps were looked for, besides the store")
        screen.say(", ".join(found.places), first="  ", indent=2)
    if found.unseen:
        screen.heading("What could not be looked at")
        for text in found.unseen:
            screen.say(text, first="  - ", indent=4)
    if found.proposals:
        screen.heading("What to do")
        for number, proposal in enumerate(found.proposals):
            _proposal(screen, proposal, "First" if number == 0 else "Or")
    if found.statement:
        screen.heading("What can't be had")
        screen.say(found.statement, first="  ", indent=2)
    screen.out.print()
    screen.say(f"Nothing has been changed. ({units.duration(found.seconds)})", style="bold")


def _timeline(screen: Screen, timeline: Sequence[TimelinePoint]) -> None:
    if not timeline:
        return
    screen.heading("What there is to go back to, newest first")
    columns = (
        Column("no.", right=True),
        Column("made (UTC)"),
        Column("what", fold=True),
        Column("rows lost", right=True),
        Column("rows back", right=True),
    )
    screen.table(columns, [_row(each) for each in timeline[:SHOWN]])
    if any(each.proposed for each in timeline[:SHOWN]):
        screen.say("* what is proposed", first="  ", indent=2)
    if len(timeline) > SHOWN:
        screen.say(f"and {len(timeline) - SHOWN} more; --json lists all of them", first="  ", indent=2)
    for each in timeline[:SHOWN]:
        if each.problem:
            label = "no good" if each.number is None else "careful"
            screen.say(f"{each.name}: {each.problem}", first=f"  {label}: ", indent=4, style="red")
    for each in timeline[:SHOWN]:
        if each.number is not None:
            migration = f", migration {each.migration}" if each.migration else ""
            changed = _changes(each.loss or ())
            more = f": {changed}" if changed else ""
            screen.say(f"{units.ago(each.made_at)}{migration}{more}", first=f"  {each.number}: ", indent=5)


def _row(each: TimelinePoint) -> tuple[str, ...]:
    number = "-" if each.number is None else f"* {each.number}" if each.proposed else str(each.number)
    name = f"{each.name} (kept)" if each.kind == "kept" else each.name
    lost = back = ""
    if each.rows_lost is not None and each.rows_back is not None and each.number is not None:
        about = "about " if each.estimated else ""
        lost = about + units.number(max(each.rows_lost, each.written_since or 0))
        back = about + units.number(each.rows_back)
    elif each.number is not None:
        lost = "not read" if each.rows is None and each.kind == "dump" else "unknown"
    return number, units.moment(each.made_at)[:16], name, lost, back


def _changes(loss: Sequence[TableLoss]) -> str:
    """The tables that differ most, and those of which that is not known, in words."""
    ordered = sorted((each for each in loss if each.differs), key=lambda each: each.weight, reverse=True)
    said = []
    for each in ordered[:TABLES]:
        if each.live_rows is None:
            said.append(f"{each.name} comes back ({_rows(each.point_rows)})")
        elif each.point_rows is None:
            said.append(f"{each.name} goes away ({_rows(each.live_rows)})")
        elif each.in_place and not each.written_since:
            said.append(f"{each.name}: rows changed in place")
        else:
            written = f", {units.number(each.written_since)} written since" if each.written_since else ""
            change = units.signed(each.point_rows - each.live_rows)
            said.append(f"{each.name} {change}{written}")
    if len(ordered) > TABLES:
        said.append(f"and {units.counted(len(ordered) - TABLES, 'more table')}")
    if unknown := [each for each in loss if not each.differs]:
        reasons = list(dict.fromkeys(each.why for each in unknown))
        tables = units.counted(len(unknown), "table")
        said.append(f"content of {tables} not compared ({'; '.join(reasons[:REASONS])})")
    return "; ".join(said)


def _rows(count: int | None) -> str:
    return "rows unknown" if count is None else units.counted(count, "row")


def _left(screen: Screen, each: Left) -> None:
    screen.say(f"{each.kind}: {each.what}", first="  ", indent=4)
    screen.say(each.detail, first="    ", indent=4)
    for step in each.steps:
        screen.say(step, first="    - ", indent=6)
    for command in each.commands:
        _command(screen, command)


def _scope(screen: Screen, scope: Sequence[LossScope], note: str) -> None:
    screen.heading("What the database itself remembers of changes")
    audited = [each for each in scope if each.source != COUNTERS]
    counted = [each for each in scope if each.source == COUNTERS]
    if audited:
        columns = (
            Column("table", fold=True),
            Column("what"),
            Column("rows", right=True),
            Column("first (UTC)"),
            Column("last (UTC)"),
        )
        screen.table(columns, [_change(each) for each in audited])
    if counted:
        rows = ", ".join(f"{units.number(each.count)} from {each.table}" for each in counted)
        screen.say(f"Deleted, by the server's counters: {rows}.", first="  ", indent=2)
    if note:
        screen.say(note, first="  ", indent=2)


def _change(each: LossScope) -> tuple[str, ...]:
    times = [units.moment(when)[:16] if when is not None else "" for when in (each.first, each.last)]
    return each.table or "(all)", each.operation, units.number(each.count), *times


def _proposal(screen: Screen, proposal: Proposal, word: str) -> None:
    screen.say(f"{word}: {proposal.title}", first="  ", indent=4, style="bold")
    screen.say(proposal.detail, first="    ", indent=4)
    for command in proposal.commands:
        _command(screen, command)


def _command(screen: Screen, command: str) -> None:
    screen.say(command, first="      ", indent=8)


def show_reinstated(screen: Screen, report: ReinstateReport) -> None:
    """A database that is there again."""
    rows = sum(table.rows for table in report.restored.tables)
    tables = units.counted(len(report.restored.tables), "table")
    screen.say(f'Done: "{report.live}" is there again, restored and proved.', style="bold green")
    screen.pairs(
        [
            ("Restore point", report.point),
            ("Content", f"{units.counted(rows, 'row')} in {tables}, all equal"),
            (
                "Set aside",
                f'"{report.set_aside}", which is invalid and can only be dropped' if report.set_aside else "",
            ),
            ("Took", units.duration(report.seconds)),
        ]
    )
    for remark in report.remarks:
        screen.say(remark, first="  Look: ", indent=8)
