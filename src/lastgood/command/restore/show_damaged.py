"""The report of a damaged restore point: the losses first, then what was restored."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lastgood.command.rollback.show_losses import SHOWN
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

if TYPE_CHECKING:
    from lastgood.damaged.restore import DamagedReport, DamagedTable, LeftOutLine

_ORDER = {"missing": 0, "partial": 1, "whole": 2}


def show(screen: Screen, report: DamagedReport) -> None:
    """Print the losses per table, then what else is missing."""
    name = Path(report.point).name
    rows = sum(table.rows for table in report.tables)
    whole = sum(table.state == "whole" for table in report.tables)
    if report.complete:
        screen.say(f'"{report.into}" holds all of {name}: no damage was found.', style="bold")
        if report.trusted:
            screen.say(f"Its code ran with your rights (trusted: {report.trusted}).", indent=2)
        if report.maker:
            screen.say(f"It is not proved, because the file is an export of {report.maker}, not of pg_dump.", indent=2)
        else:
            screen.say("It is not proved. To prove it, run lastgood restore without --skip-damaged.", indent=2)
    else:
        screen.say(
            f'INCOMPLETE: "{report.into}" holds what could be read of {name}. It is not proved.', style="bold red"
        )
    screen.say(
        f"{units.counted(rows, 'row')} read; {units.number(whole)} of "
        f"{units.counted(len(report.tables), 'table')} without a known loss.",
        first="  ",
        indent=2,
    )
    _list(screen, "Damage", report.damage)
    screen.heading("Tables")
    columns = (
        TableColumn("table", fold=True),
        TableColumn("rows", right=True),
        TableColumn("of", right=True),
        TableColumn("left out", right=True),
        TableColumn("verdict"),
    )
    tables = sorted(report.tables, key=lambda table: (_ORDER[table.state], table.schema_name, table.name))
    screen.table(columns, [_row(table) for table in tables])
    _list(screen, "Rows left out", _rows(tables))
    _list(screen, "Commands left out", map(_command, report.commands))
    _list(screen, "Foreign keys created NOT VALID, because referenced rows are missing", report.not_valid)
    _list(screen, "Skipped", report.notes)
    screen.heading(f'Only the owner and superusers can connect to "{report.into}"; its comment describes it.')


def _row(table: DamagedTable) -> tuple[str, ...]:
    return (
        f"{table.schema_name}.{table.name}",
        units.number(table.rows),
        "?" if table.expected is None else units.number(table.expected),
        units.number(table.left_out) if table.left_out else "",
        table.state if table.state == "whole" else table.state.upper(),
    )


def _rows(tables: Iterable[DamagedTable]) -> Iterable[str]:
    for table in tables:
        name = f"{table.schema_name}.{table.name}"
        if table.why:
            yield f"{name}: {table.why}"
        for row in table.first:
            yield f"{name}, line {row.line}: {row.why}"
        if table.left_out > len(table.first):
            yield f"{name}: and {units.number(table.left_out - len(table.first))} more rows"


def _command(missing: LeftOutLine) -> str:
    return f"line {missing.line}{f' ({missing.what})' if missing.what else ''}: {missing.why}"


def _list(screen: Screen, heading: str, texts: Iterable[str]) -> None:
    found = list(texts)
    if not found:
        return
    screen.heading(heading)
    for text in found[:SHOWN]:
        screen.say(text, first="  - ", indent=4)
    if len(found) > SHOWN:
        screen.say(f"and {len(found) - SHOWN} more; --json lists all", first="  - ", indent=4)
