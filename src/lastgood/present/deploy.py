"""What became of a deployment, readable in a pipeline's log as on a terminal."""

from __future__ import annotations

from pathlib import Path

from lastgood import amounts
from lastgood.plan import TableLoss
from lastgood.present.screen import Column, Screen
from lastgood.procedure.deploy import DeployReport
from lastgood.procedure.deploy.report import Looked

SHOWN = 20
STATUS = {
    "deployed": "deployed",
    "unchanged": "failed; the database is as it was",
    "rolled back": "failed; the database was put back",
    "not rolled back": "FAILED, AND WAS NOT TAKEN BACK",
}


def show(screen: Screen, report: DeployReport) -> None:
    """A deployment that is done."""
    screen.say(f'Done: "{report.live}" is migrated, and no worse than before.', style="bold green")
    _facts(screen, report)
    screen.say(f"To go back later: lastgood rollback {Path(report.point).name}", first="  ", indent=2)


def show_failed(screen: Screen, report: DeployReport) -> None:
    """A deployment that failed: what is known of it; the error itself is shown after it."""
    screen.say(f'Deployment {report.run} of "{report.live}": {STATUS[report.status]}', style="bold")
    _facts(screen, report)
    if report.worse:
        screen.heading("Worse than before the migration")
        for each in report.worse:
            screen.say(f"{each.outcome}  {each.name}: {each.said}", first="  ", indent=8)
            for sample in each.samples:
                screen.say(sample, first="        ", indent=8)
    if report.loss:
        _loss(screen, report.loss)
    screen.out.print()


def _facts(screen: Screen, report: DeployReport) -> None:
    command, back = report.command, report.rollback
    screen.pairs(
        (
            ("run", report.run),
            ("restore point", Path(report.point).name),
            ("migration", _command(report)),
            ("sessions", ", ".join(command.sessions_ended) + " ended" if command and command.sessions_ended else ""),
            ("before", _looked(report.before)),
            ("after", _looked(report.after)),
            (
                "health",
                (report.application.health.problem or "well")
                if report.application and report.application.health
                else "",
            ),
            ("compared", report.compared),
            ("moved on", ", ".join(report.moved)),
            ("rolled back by", f"{back.run}, {len(back.tables)} tables proved" if back is not None else ""),
            ("kept database", report.kept or ""),
            ("took", ", ".join(f"{name} {amounts.duration(value)}" for name, value in report.seconds.items())),
        )
    )


def _command(report: DeployReport) -> str:
    command = report.command
    if command is None:
        return ""
    if command.signal is not None:
        ended = f"killed by signal {command.signal}"
    elif command.status is None:
        ended = "ended by lastgood"
    else:
        ended = f"status {command.status}"
    return f"{command.program}: {ended} after {amounts.duration(command.seconds)}"


def _looked(found: Looked | None) -> str:
    if found is None:
        return ""
    failed = f"; failed: {', '.join(found.blockers)}" if found.blockers else ""
    return f"{found.verdict}, {amounts.counted(found.rules, 'rule')}{failed}"


def _loss(screen: Screen, loss: tuple[TableLoss, ...]) -> None:
    screen.heading("Rows, as the migration left them and in the restore point")
    rows = []
    for each in loss[:SHOWN]:
        since = f"{amounts.number(each.written_since)} by {each.by}" if each.written_since and each.by else ""
        rows.append([f"{each.schema_name}.{each.name}", _rows(each.live_rows), _rows(each.point_rows), since])
    screen.table(
        (Column("table", fold=True), Column("then", right=True), Column("now", right=True), Column("written since")),
        rows,
    )
    if len(loss) > SHOWN:
        screen.say(f"and {len(loss) - SHOWN} more tables", first="  ", indent=2)


def _rows(count: int | None) -> str:
    return "no table" if count is None else amounts.number(count)
