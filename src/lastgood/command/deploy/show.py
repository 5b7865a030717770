"""The report of a deployment as text, for a pipeline's log or a terminal, and as notifications."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lastgood.command.deploy.deploy import DeployReport, TrialReport
from lastgood.command.deploy.report import ChangedTable, CommandReport, Worse
from lastgood.command.rollback.show_losses import CHANGE, COLUMNS, LOSS, rows_of
from lastgood.command.validate.validate import ValidationSummary
from lastgood.errors import LastgoodError
from lastgood.plan.loss import TableLoss
from lastgood.plan.plan import KEPT
from lastgood.postgres.server import Target
from lastgood.screen import news
from lastgood.screen.news import Story
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

SHOWN = 20
SESSIONS = 5
STATUS = {
    "deployed": "deployed",
    "unchanged": "failed; the database is unchanged",
    "rolled back": "failed; the database was rolled back",
    "not rolled back": "FAILED, AND WAS NOT ROLLED BACK",
}


def show(screen: Screen, report: DeployReport) -> None:
    """Print a successful deployment."""
    if report.remarks:
        cautions = units.counted(len(report.remarks), "caution")
        screen.say(f'Deployed with {cautions}: "{report.live}" is migrated{_compared(report)}.', style="bold yellow")
        for text in report.remarks:
            screen.say(text, first="  caution ", indent=10, style="yellow")
    else:
        screen.say(f'Done: "{report.live}" is migrated{_compared(report)}.', style="bold green")
    _facts(screen, report)
    _tables(screen, "What changed since the restore point", report.tables)
    _worse(screen, report.worse)
    screen.command("To roll back later:", f"lastgood rollback {Path(report.point).name}", indent=2)


def _compared(report: DeployReport) -> str:
    """Describe the comparison of the validations before and after."""
    if report.before is None or report.after is None:
        return "; its data was not checked"
    if report.worse:
        return f"; {units.counted(len(report.worse), 'warning is', 'warnings are')} worse than before"
    return "" if report.remarks else ", and no check is worse than before"


def show_failed(screen: Screen, report: DeployReport) -> None:
    """Print a failed deployment. The error itself is printed after it."""
    screen.say(f'Deployment {report.run} of "{report.live}": {STATUS[report.status]}', style="bold")
    _facts(screen, report)
    _worse(screen, report.worse)
    if report.loss:
        _loss(screen, report.loss)
    screen.out.print()


def _worse(screen: Screen, worse: tuple[Worse, ...]) -> None:
    if not worse:
        return
    screen.heading("Worse than before the migration")
    for each in worse:
        screen.say(f"{each.outcome}  {each.name}: {each.message}", first="  ", indent=8)
        for sample in each.samples:
            screen.say(sample, first="        ", indent=8)


def _ended(sessions: tuple[str, ...]) -> str:
    """List the first few sessions; the document has all."""
    return units.listed(sessions, SESSIONS) + (" terminated" if sessions else "")


def _facts(screen: Screen, report: DeployReport) -> None:
    command, back = report.command, report.rollback
    screen.pairs(
        (
            ("run", report.run),
            ("restore point", Path(report.point).name),
            ("migration", _command(report.command)),
            *((("errors", line) for line in report.command.errors) if report.command is not None else ()),
            ("accepted", report.command.allowed if report.command is not None else ""),
            ("sessions", _ended(command.sessions_ended) if command is not None else ""),
            ("before", _validation(report.before)),
            ("after", _validation(report.after)),
            (
                "health",
                (report.application.health.problem or "healthy")
                if report.application and report.application.health
                else "",
            ),
            ("compared", report.compared),
            ("advanced", ", ".join(report.moved)),
            (
                "rolled back by",
                f"{back.run}, {units.counted(len(back.tables), 'table')} proved" if back is not None else "",
            ),
            (KEPT[back.way] if back is not None else KEPT["by-name"], report.kept or ""),
            ("duration", ", ".join(f"{name} {units.duration(value)}" for name, value in report.seconds.items())),
        )
    )


def show_trial(screen: Screen, report: TrialReport) -> None:
    """Print what the migration would change."""
    if report.problem:
        screen.say(f"The migration would be rolled back: {report.problem}", style="bold red")
    else:
        screen.say(f'The migration succeeded on a clone of "{report.live}", which was removed.', style="bold")
    versions = [each or "none" for each in (report.migration_before, report.migration_after)]
    screen.pairs(
        (
            ("run", report.run),
            ("migration", _command(report.command)),
            ("version", f"{versions[0]} to {versions[1]}" if versions[0] != versions[1] else ""),
            ("before", _validation(report.before)),
            ("after", _validation(report.after)),
            ("duration", ", ".join(f"{name} {units.duration(value)}" for name, value in report.seconds.items())),
        )
    )
    _worse(screen, report.worse)
    _tables(screen, "Tables", report.tables)
    for title, names in (("New", report.added), ("Removed", report.removed), ("Definition changed", report.changed)):
        if names:
            screen.heading(title)
            for name in names[:SHOWN]:
                screen.say(name, first="  ", indent=4)
            screen.more(len(names), SHOWN, "object")
    if report.locks:
        screen.heading("Locks on existing tables, which would block the application")
        for lock in report.locks[:SHOWN]:
            screen.say(
                f"{lock.table} ({units.size(lock.bytes)}): {lock.blocks}, for about "
                f"{units.duration(lock.seconds)} ({lock.mode})",
                first="  ",
                indent=4,
            )
        screen.more(len(report.locks), SHOWN, "lock")
    elif not report.problem:
        screen.say("No blocking locks were observed.", first="  ", indent=2)
    if not (report.tables or report.added or report.removed or report.changed):
        screen.say("The migration changed nothing.", first="  ", indent=2)


def _tables(screen: Screen, title: str, tables: Sequence[ChangedTable]) -> None:
    """Print the tables that a migration changed, and by how many rows."""
    if not tables:
        return
    screen.heading(title)
    columns = (
        TableColumn("table", fold=True),
        TableColumn("before", right=True, drop=2),
        TableColumn("after", right=True, drop=1),
        TableColumn("added", right=True),
        TableColumn("deleted", right=True, style=LOSS),
        TableColumn("changed", right=True, style=CHANGE),
    )
    screen.table(
        columns,
        [
            [f"{each.schema_name}.{each.name}", _rows(each.rows_before), _rows(each.rows_after), *_numbers(each)]
            for each in tables[:SHOWN]
        ],
    )
    for each in tables[:SHOWN]:
        columns_changed = [f"+{name}" for name in each.columns_added] + [f"-{name}" for name in each.columns_removed]
        if columns_changed:
            screen.say(f"{each.schema_name}.{each.name}: {', '.join(columns_changed)}", first="  columns of ", indent=4)
    screen.more(len(tables), SHOWN, "table")
    for why in dict.fromkeys(each.why for each in tables if each.added is None and each.why):
        names = ", ".join(f"{each.schema_name}.{each.name}" for each in tables[:SHOWN] if each.why == why)
        screen.say(f"{names}: {why}", first="  not counted: ", indent=4)


def _numbers(each: ChangedTable) -> tuple[str, str, str]:
    if each.added is None or each.deleted is None:
        return "?", "?", "?"
    changed = "no key" if each.changed is None else units.number(each.changed)
    return units.number(each.added), units.number(each.deleted), changed


def _command(command: CommandReport | None) -> str:
    if command is None:
        return ""
    if command.signal is not None:
        ended = f"killed by signal {command.signal}"
    elif command.status is None:
        ended = "terminated by lastgood"
    else:
        ended = f"status {command.status}"
    return f"{command.program}: {ended} after {units.duration(command.seconds)}"


def _validation(found: ValidationSummary | None) -> str:
    if found is None:
        return ""
    failed = f"; failed: {', '.join(found.blockers)}" if found.blockers else ""
    return f"{found.verdict}, {units.counted(found.rules, 'rule')}{failed}"


def _loss(screen: Screen, loss: tuple[TableLoss, ...]) -> None:
    screen.heading("Rows after the migration, and as restored")
    counts = (TableColumn("migrated", right=True, drop=2), TableColumn("restored", right=True, drop=1))
    screen.table(
        (COLUMNS[0], *counts, *COLUMNS[3:]),
        [[each.table, _rows(each.live_rows), _rows(each.point_rows), *rows_of(each)] for each in loss[:SHOWN]],
    )
    screen.more(len(loss), SHOWN, "table")


def _rows(count: int | None) -> str:
    return "no table" if count is None else units.number(count)


def begun(target: Target, label: str, command: Sequence[str]) -> Story:
    """The notification at the start. It names only the program of the migration: its arguments may hold secrets."""
    live, program = target.dbname, command[0]
    called = f' "{label}"' if label else ""
    return Story(
        events=frozenset({"start"}),
        title="deployment started",
        event=f'Migration{called} of "{live}" is starting with {Path(program).name}.',
        state="Nothing was changed yet; a restore point is made first.",
        next="No action needed. lastgood status shows the progress.",
    )


def deployed(report: DeployReport) -> Story:
    """The notification of a success."""
    return Story(
        events=frozenset({"success"}),
        title="deployed",
        event=f'"{report.live}" is migrated and passed the checks.',
        state=f'"{report.live}" is open.',
        next=f"To roll back later: lastgood rollback {Path(report.point).name}",
        figures=_figures(report),
    )


def failed(error: LastgoodError, report: DeployReport) -> Story:
    """The notification of a failure and its outcome."""
    story = replace(news.failed(error, "deploy", report.live), figures=_figures(report))
    if report.loss and report.kept is not None:
        return replace(story, loss=news.loss_summary(report.loss, report.kept))
    return story


def _figures(report: DeployReport) -> tuple[tuple[str, str], ...]:
    took = units.duration(report.seconds["total"])
    return (("Label", report.label), ("Restore point", Path(report.point).name), ("Duration", took))
