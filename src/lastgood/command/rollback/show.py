"""The report of a completed command, with the proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lastgood.command.rollback import show_plan as shown_plan
from lastgood.command.rollback.show_losses import SHOWN
from lastgood.facts import CountedTable
from lastgood.screen import application
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units
from lastgood.text.quoting import argument, identifier

if TYPE_CHECKING:
    from lastgood.load.deferred.work import Finished
    from lastgood.load.repairs import Repaired
    from lastgood.plan.plan import Way
    from lastgood.plan.undo_plan import UndoPlan
    from lastgood.restore import RestoreReport
    from lastgood.run.report import FinishReport, PauseReport, Report, SkippedCommands
    from lastgood.undo import UndoReport

VERDICTS = {True: "equal", None: "same number of rows", False: "DIFFERS"}


class ProvedCount(CountedTable, Protocol):
    """One table of a proof; ``equal`` is None where only the row counts could be compared (they are equal)."""

    @property
    def equal(self) -> bool | None: ...


def show(screen: Screen, report: Report) -> None:
    """Print the report of a rollback: the proof and the outages; then, where a terminal still shows it, the result and
    the command that undoes it."""
    _proof(screen, report.tables, report.not_compared)
    _remarks(screen, report)
    _figures(screen, report)
    application.show(screen, report.application)
    screen.out.print()
    screen.say(f'Done: "{report.live}" was rolled back to {Path(report.point.path).name}.', style="bold green")
    _proved(screen, report.tables)
    screen.out.print()
    screen.command("To undo it:", report.undo_command, style="bold")


def _proved(screen: Screen, tables: Sequence[ProvedCount]) -> None:
    """Print the number of tables that equal the restore point."""
    rows = sum(table.rows for table in tables)
    equal = sum(table.equal is True for table in tables)
    counted = sum(table.equal is None for table in tables)
    screen.say(
        f"Proved: {units.number(equal)} of {units.counted(len(tables), 'table')} with "
        f"{units.counted(rows, 'row')} equal the restore point in every row"
        + (f"; of {units.number(counted)} only the number of rows could be compared." if counted else "."),
        first="  ",
        indent=2,
    )


def _proof(screen: Screen, tables: Sequence[ProvedCount], not_compared: Sequence[str]) -> None:
    """Print the comparison of every table with the restore point, the largest first."""
    screen.heading("Proof")
    columns = (
        TableColumn("table", fold=True),
        TableColumn("rows", right=True),
        TableColumn("compared"),
        TableColumn("digest", drop=1),
        TableColumn("verdict"),
    )
    by_rows = sorted(tables, key=lambda table: (bool(table.equal), -table.rows))
    screen.table(
        columns,
        [
            (
                f"{table.schema_name}.{table.name}",
                units.number(table.rows),
                compared_by(table),
                table.digest[:12] if table.digest else "",
                VERDICTS[table.equal],
            )
            for table in by_rows[:SHOWN]
        ],
    )
    screen.more(len(by_rows), SHOWN, "table")
    for text in not_compared:
        screen.say(text, first="  not compared: ", indent=4)


def compared_by(table: ProvedCount) -> str:
    """Describe the comparison of a table of a proof."""
    if table.equal is None:
        return "number of rows"
    # Without a digest of the restore point, the rows that were sent and those read back are compared as they are.
    return "digest of all rows" if table.digest else "all rows, by byte"


def show_restore(screen: Screen, report: RestoreReport) -> None:
    """Print the report of a restore."""
    screen.say(f'Done: {Path(report.point).name} was restored into "{report.into}".', style="bold green")
    _proved(screen, report.tables)
    _proof(screen, report.tables, report.not_compared)
    screen.heading("What happened")
    screen.pairs(
        [
            ("Run", report.run),
            ("Embedded code", f"{report.code.counted}: could run {report.code.rights}" if report.code else ""),
            *((name.capitalize(), units.duration(seconds)) for name, seconds in report.seconds.items()),
            ("Finished", _finished(report.finished)),
        ]
    )
    _changes(screen, report.skipped, report.repaired)


def show_finish(screen: Screen, report: FinishReport) -> None:
    """Print the report of the deferred work."""
    screen.say(f'Done: "{report.live}" is complete.', style="bold green")
    screen.pairs(
        [("Run", report.run), ("Finished", _finished(report.finished)), ("Total", units.duration(report.seconds))]
    )


def _finished(finished: Finished | None) -> str:
    if finished is None:
        return ""
    text = (
        f"{units.counted(finished.indexes, 'index', 'indexes')} built, "
        f"{units.counted(finished.foreign_keys, 'foreign key')} validated, "
        f"{units.counted(finished.analyzed, 'table')} analyzed"
    )
    return text + (f"; dropped meanwhile: {', '.join(finished.gone)}" if finished.gone else "")


def _remarks(screen: Screen, report: Report) -> None:
    carried = report.carried_over
    _changes(screen, report.skipped, report.repaired, carried.remarks)


def _changes(
    screen: Screen, left_out: Sequence[SkippedCommands], repaired: Sequence[Repaired], remarks: Sequence[str] = ()
) -> None:
    """Print the differences from the restore point. All repairs are listed, because each is a change."""
    if not (left_out or repaired or remarks):
        return
    screen.heading("Please review")
    for text in remarks:
        screen.say(text, first="  - ", indent=4)
    for each in repaired:
        where = f" (line {each.line})" if each.line else ""
        screen.say(f"repaired {each.what}{where}: {each.why}", first="  - ", indent=4)
    by_reason: dict[str, list[SkippedCommands]] = {}
    for skipped in left_out:
        by_reason.setdefault(skipped.why, []).append(skipped)
    for why, alike in [*by_reason.items()][:SHOWN]:
        screen.say(f"left out {_left_out(alike)}: {why}", first="  - ", indent=4)
    if len(by_reason) > SHOWN:
        left = sum(each.count for alike in [*by_reason.values()][SHOWN:] for each in alike)
        screen.say(
            f"left out {units.counted(left, 'more command')} for other reasons; --json lists all",
            first="  - ",
            indent=4,
        )


def _left_out(alike: Sequence[SkippedCommands]) -> str:
    """Describe commands that were left out for one reason: by name if they are of one kind."""
    first, count = min(alike, key=lambda each: each.line), sum(each.count for each in alike)
    if len(alike) > 1:
        return f"{units.counted(count, 'command')} (the first in line {first.line})"
    times = f", {units.number(count)} times" if count > 1 else ""
    return f"{first.what} (line {first.line}{times})"


def _figures(screen: Screen, report: Report) -> None:
    seconds, carried = report.seconds, report.carried_over
    written = report.fence.writes_after
    screen.heading("What happened")
    screen.pairs(
        [
            ("Run", report.run),
            ("Embedded code", f"{report.code.counted}: could run {report.code.rights}" if report.code else ""),
            ("Read outage", units.duration(seconds.read_outage)),
            ("Write outage", units.duration(seconds.write_outage)),
            ("Clients paused", _pause(report.pause)),
            ("Deferred work", _finished(report.finished)),
            ("Total", units.duration(seconds.total)),
            ("Writes blocked", report.fence.proof),
            (
                "Writes during the run",
                "unknown"
                if written is None
                else f"at most {units.counted(written, 'row')}, kept"
                if written
                else "0 rows",
            ),
            (
                "Carried over",
                f"{units.counted(carried.settings, 'setting')}, "
                f"{units.counted(carried.privileges, 'owner or grant', 'owners and grants')}",
            ),
            ("Read access verified for", ", ".join(carried.roles_tried)),
            *_kept(report.kept, "previous", report.way),
            ("Emergency backup", report.emergency_backup or ""),
            ("Checklist", report.verdict),
            *(("Overridden", f"{each.item}, by {each.by}: {each.reason}") for each in report.overrides),
            *(("Attested", f"{each.item}: {each.name}") for each in report.attestations),
        ]
    )


def _kept(name: str, which: str, way: Way) -> tuple[tuple[str, str], ...]:
    """Describe a kept database or kept schemas, with the commands to inspect them."""
    if way == "in-place":
        return (
            ("Kept", f'the {which} objects, in the schemas "{name}"'),
            ("", "until lastgood prune; supabase db reset drops them, db pull and db diff list them"),
        )
    return (
        ("Kept", f'the {which} database, as "{name}", closed to connections'),
        ("To inspect it", f"lastgood facts {argument(name)}"),
        ("With psql", f"ALTER DATABASE {identifier(name)} ALLOW_CONNECTIONS true; and false again afterwards"),
    )


def _pause(pause: PauseReport | None) -> str:
    if pause is None:
        return ""
    names = ", ".join(f'"{name}"' for name in pause.databases)
    text = f"clients of PgBouncer ({names}), for {units.duration(pause.seconds)}"
    if pause.quiet:
        return text + "; no query failed"
    return text + f"; {units.counted(len(pause.cut), 'transaction')} did not end in time: {'; '.join(pause.cut)}"


def show_undo_plan(screen: Screen, plan: UndoPlan) -> None:
    """Print the plan of an undo."""
    if plan.way == "in-place":
        screen.say(f'Plan: undo run {plan.undoes}: the objects in "{plan.arriving}" become live again', style="bold")
        stays = f'The current objects remain in the schemas "{plan.kept}"; nothing is deleted.'
    else:
        screen.say(f'Plan: undo run {plan.undoes}: "{plan.arriving}" becomes "{plan.live}" again', style="bold")
        stays = f'The current "{plan.live}" remains on the server as "{plan.kept}"; nothing is deleted.'
    screen.say(stays, first="  ", indent=2)
    screen.pairs(shown_plan.pauses(plan.pauses))
    shown_plan.findings(screen, plan.findings)
    screen.say("Nothing was changed yet.", style="bold")


def show_undo(screen: Screen, report: UndoReport) -> None:
    """Print the report of an undo."""
    now = (
        f'"{report.live}" has its objects from before run {report.undoes} again'
        if report.way == "in-place"
        else f'"{report.live}" is again the database from before run {report.undoes}'
    )
    screen.say(f"Done: {now}.", style="bold green")
    screen.pairs(
        [
            ("Run", report.run),
            *((name.replace("_", " ").capitalize(), units.duration(each)) for name, each in report.seconds.items()),
            ("Clients paused", _pause(report.pause)),
            *_kept(report.kept, "replaced", report.way),
        ]
    )
    application.show(screen, report.application)
    screen.out.print()
    screen.command("To undo it:", report.undo_command, style="bold")
