"""The diagnosis as text for the operator on call, and notifications about the restore of a missing database.

The text has the emergency, the reasons, the restore points and the proposals.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lastgood.command.recover.reinstate import ReinstateReport
from lastgood.command.recover.report import COUNTERS, Diagnosis, LossScope, OtherSource, Proposal, TimelinePoint
from lastgood.command.rollback.show_losses import CHANGE, LOSS, at_least
from lastgood.plan.loss import TableLoss, Totals
from lastgood.screen.news import Story
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

# More points than this fill a screen; the JSON document has all of them.
SHOWN = 12
TABLES = 4
NAMED = 3
REASONS = 2


def show(screen: Screen, found: Diagnosis) -> None:
    """Print the whole diagnosis."""
    screen.say(f"{'Diagnosis' if found.emergency == 'older_state' else 'Emergency'}: {found.title}", style="bold")
    if found.reasons:
        screen.heading("Why")
        by_source: dict[str, list[str]] = {}
        for reason in found.reasons:
            by_source.setdefault(reason.source, []).append(reason.text)
        for source, texts in by_source.items():
            screen.say(f"by {source}:", first="  ", indent=4)
            for text in texts:
                screen.say(text, first="  - ", indent=4)
    _timeline(screen, found)
    if found.left:
        screen.heading("Other sources")
        for each in found.left:
            _left(screen, each)
    if found.scope or found.scope_note:
        _scope(screen, found.scope, found.scope_note)
    if found.places:
        screen.heading("Other folders that were searched for dumps")
        screen.say(", ".join(found.places), first="  ", indent=2)
    if found.unseen:
        screen.heading("What could not be examined")
        for text in found.unseen:
            screen.say(text, first="  - ", indent=4)
    if found.proposals:
        screen.heading("What to do")
        for number, proposal in enumerate(found.proposals):
            _proposal(screen, proposal, "First" if number == 0 else "Or")
    if found.statement:
        screen.heading("What cannot be recovered")
        screen.say(found.statement, first="  ", indent=2)
    screen.out.print()
    screen.say(f"Nothing was changed. ({units.duration(found.seconds)})", style="bold")


def _timeline(screen: Screen, found: Diagnosis) -> None:
    """Print the restore points, and apart from them what is kept on the server."""
    shown = found.timeline[:SHOWN]
    dumps = [each for each in shown if each.kind == "dump"]
    kept = [each for each in shown if each.kind == "kept"]
    if dumps:
        screen.heading("Restore points, newest first")
        _points(screen, dumps)
    if found.left_out:
        screen.say(
            f"left out: {units.listed(found.left_out, NAMED)} (emergency backups hold the state before a rollback, "
            "and are used only by name)",
            first="  ",
            indent=4,
        )
    if kept:
        total = sum(each.bytes or 0 for each in kept)
        size = f", {units.size(total)} in total" if total else ""
        screen.heading(f"{_kinds(kept)}{size}, newest first")
        _kept(screen, kept)
    screen.more(len(found.timeline), SHOWN)


def _points(screen: Screen, points: Sequence[TimelinePoint]) -> None:
    columns = (
        TableColumn("no.", right=True),
        TableColumn("made (UTC)", drop=1),  # the names have it, and the lines below
        TableColumn("what", fold=True),
        TableColumn("lost", right=True, style=LOSS),
        TableColumn("returns", right=True),
        TableColumn("changed", right=True, style=CHANGE),
    )
    screen.table(columns, [_row(each) for each in points])
    _remarks(screen, points)
    for each in points:
        if each.number is not None:
            migration = f", migration {each.migration}" if each.migration else ""
            changed = _changes(each.loss or ())
            more = f": {changed}" if changed else ""
            screen.say(f"{units.ago(each.made_at)}{migration}{more}", first=f"  {each.number}: ", indent=5)


def _kept(screen: Screen, kept: Sequence[TimelinePoint]) -> None:
    columns = (
        TableColumn("no.", right=True),
        TableColumn("replaced (UTC)"),
        TableColumn("name", fold=True),
        TableColumn("size", right=True),
    )
    rows = [(_number(each), units.moment(each.made_at)[:16], each.name, _size(each)) for each in kept]
    screen.table(columns, rows)
    _remarks(screen, kept)


def _size(each: TimelinePoint) -> str:
    return units.size(each.bytes) if each.bytes is not None else "unknown"


def _remarks(screen: Screen, points: Sequence[TimelinePoint]) -> None:
    """Print the meaning of the mark, and what is wrong with a point."""
    if any(each.proposed for each in points):
        screen.say("* proposed", first="  ", indent=2)
    for each in points:
        if each.problem:
            label = "damaged" if each.number is None else "caution"
            screen.say(f"{each.name}: {each.problem}", first=f"  {label}: ", indent=4, style="red")


def _number(each: TimelinePoint) -> str:
    return "-" if each.number is None else f"* {each.number}" if each.proposed else str(each.number)


def _kinds(kept: Sequence[TimelinePoint]) -> str:
    ways = {each.way for each in kept}
    if ways == {"in-place"}:
        return "Kept schemas"
    return "Kept databases and schemas" if len(ways) > 1 else "Kept databases"


def _row(each: TimelinePoint) -> tuple[str, ...]:
    rows = ("", "", "")
    if each.rows_lost is not None and each.number is not None:
        known = (each.rows_lost, each.rows_back or 0, each.rows_changed or 0)
        lost, back, changed = (units.number(rows) if each.exact else at_least(rows) for rows in known)
        rows = (lost, back, changed)
    elif each.number is not None:
        rows = ("not read" if each.rows is None and each.kind == "dump" else "unknown", "", "")
    return _number(each), units.moment(each.made_at)[:16], each.name, *rows


def _changes(loss: Sequence[TableLoss]) -> str:
    """Describe the tables that differ most, and those that were not compared."""
    ordered = sorted((each for each in loss if each.differs), key=lambda each: each.weight, reverse=True)
    parts = []
    for each in ordered[:TABLES]:
        if each.live_rows is None:
            parts.append(f"{each.name} returns ({_rows(each.point_rows)})")
        elif each.point_rows is None:
            parts.append(f"{each.name} is removed ({_rows(each.live_rows)})")
        elif each.counted:
            parts.append(f"{each.name} {Totals.of([each]).summary}")
        elif each.in_place and not each.written_since:
            parts.append(f"{each.name}: rows changed in place")
        else:
            written = f", {units.number(each.written_since)} written since" if each.written_since else ""
            change = units.signed(each.point_rows - each.live_rows)
            parts.append(f"{each.name} {change}{written}")
    if len(ordered) > TABLES:
        parts.append(f"and {units.counted(len(ordered) - TABLES, 'more table')}")
    if unknown := [each for each in loss if not each.differs]:
        reasons = list(dict.fromkeys(each.why for each in unknown))
        tables = units.counted(len(unknown), "table")
        parts.append(f"content of {tables} not compared ({'; '.join(reasons[:REASONS])})")
    return "; ".join(parts)


def _rows(count: int | None) -> str:
    return "rows unknown" if count is None else units.counted(count, "row")


def _left(screen: Screen, each: OtherSource) -> None:
    screen.say(f"{each.kind}: {each.what}", first="  ", indent=4)
    screen.say(each.detail, first="    ", indent=4)
    for step in each.steps:
        screen.say(step, first="    - ", indent=6)
    for command in each.commands:
        _command(screen, command)


def _scope(screen: Screen, scope: Sequence[LossScope], note: str) -> None:
    screen.heading("Changes recorded in the database")
    audited = [each for each in scope if each.source != COUNTERS]
    counted = [each for each in scope if each.source == COUNTERS]
    if audited:
        columns = (
            TableColumn("table", fold=True),
            TableColumn("what"),
            TableColumn("rows", right=True),
            TableColumn("first (UTC)"),
            TableColumn("last (UTC)"),
        )
        screen.table(columns, [_change(each) for each in audited])
    if counted:
        rows = ", ".join(f"{units.number(each.count)} from {each.table}" for each in counted)
        screen.say(f"Deleted rows, by the server's counters: {rows}.", first="  ", indent=2)
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
    """Print the restore of a missing database."""
    rows = sum(table.rows for table in report.restored.tables)
    tables = units.counted(len(report.restored.tables), "table")
    screen.say(f'Done: "{report.live}" is restored and proved.', style="bold green")
    screen.pairs(
        [
            ("Restore point", report.point),
            ("Content", f"{units.counted(rows, 'row')} in {tables}, all equal"),
            (
                "Set aside",
                f'"{report.set_aside}", which is invalid and can only be dropped' if report.set_aside else "",
            ),
            ("Duration", units.duration(report.seconds)),
        ]
    )
    for remark in report.remarks:
        screen.say(remark, first="  To do: ", indent=9)


def reinstating(live: str, point: str) -> Story:
    """The notification before a missing database is restored under its own name."""
    return Story(
        events=frozenset({"start"}),
        title="restoring the missing database",
        event=f'"{live}" does not exist; it is being restored from {Path(point).name}.',
    )


def reinstated(report: ReinstateReport) -> Story:
    """The notification after a missing database was restored."""
    return Story(
        events=frozenset({"success"}),
        title="missing database restored",
        event=f'"{report.live}" was missing and is restored from {Path(report.point).name}; every table is proved.',
        state=f'"{report.live}" is open.',
        loss="Everything written after the restore point was made.",
        next="; ".join(report.remarks),
        figures=(("Duration", units.duration(report.seconds)),),
    )
