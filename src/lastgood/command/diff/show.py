"""The difference of two sides, on a screen and as a page, from the same blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lastgood.command.diff.diff import DiffReport, RowDifference, TableRows
from lastgood.difference import TableDifference
from lastgood.screen import blocks as kinds
from lastgood.screen.blocks import Block
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

COLUMNS = (
    TableColumn("table", fold=True),
    TableColumn("rows in A", right=True),
    TableColumn("rows in B", right=True),
    TableColumn("only in A", right=True),
    TableColumn("only in B", right=True),
    TableColumn("changed", right=True),
)
# A value on a screen: the beginning shows which it is.
LONGEST = 60
CHANGES = {"only_a": "only in A", "only_b": "only in B", "changed": "changed"}


def show(screen: Screen, report: DiffReport) -> None:
    """Print the counts of the tables that differ, what else differs, and the rows."""
    for block in blocks(report):
        match block:
            case kinds.Title(text, 1):
                screen.say(text, style="bold green" if report.equal else "bold")
            case kinds.Title(text):
                screen.heading(text)
            case kinds.Paragraph(text):
                screen.say(text, first="  ", indent=4)
            case kinds.TableBlock(columns, rows):
                screen.table(columns, [[str(cell) for cell in row] for row in rows])


def blocks(report: DiffReport) -> Iterator[Block]:
    """The document: a title with the verdict, then the tables, then the rows."""
    rows = sum(each.rows_a or 0 for each in report.tables)
    tables = units.counted(len(report.tables), "table")
    if report.equal:
        yield kinds.Title(f"Equal: {report.a} and {report.b}, {tables}, {units.counted(rows, 'row')}.", 1)
        return
    yield kinds.Title(f"{summary(report.tables)}: {report.a} (A) and {report.b} (B)", 1)
    some = sorted((each for each in report.tables if _differs(each)), key=lambda each: -_weight(each))
    if some:
        counted = any(each.counted for each in some) or any(each.why for each in some)
        columns = COLUMNS if counted else COLUMNS[:3]
        yield kinds.TableBlock(columns, [_figures(each)[: len(columns)] for each in some])
        if not counted:
            yield kinds.Paragraph("The digests differ; to count the rows that differ: --level count")
    equal = [each for each in report.tables if each.state == "equal"]
    if equal:
        other = "other " if some else ""
        yield kinds.Paragraph(
            f"{units.counted(len(equal), f'{other}table')} {'is' if len(equal) == 1 else 'are'} equal."
        )
    yield from map(kinds.Paragraph, _remarks(report))
    for part in report.rows:
        yield kinds.Title(part.table)
        yield from _rows(part, next(each for each in report.tables if each.table == part.table))
    if report.files:
        yield kinds.Paragraph(f"Written: {', '.join(report.files)}")


def summary(tables: Sequence[TableDifference]) -> str:
    """``3 of 12 tables differ``."""
    number = sum(_differs(each) for each in tables)
    if not number and any(each.state == "not compared" for each in tables):
        return "Not all tables were compared"
    if not number and not any(each.structure_differs for each in tables):
        return f"{units.counted(len(tables), 'table')} are equal" if len(tables) != 1 else "1 table is equal"
    if not number:
        return "The columns of tables differ"
    return f"{number} of {units.counted(len(tables), 'table')} {'differs' if number == 1 else 'differ'}"


def _differs(table: TableDifference) -> bool:
    return table.state in ("different", "only a", "only b")


def _weight(table: TableDifference) -> int:
    return (table.only_a or 0) + (table.only_b or 0) + (table.changed or 0)


def _figures(table: TableDifference) -> tuple[str, ...]:
    a = "none" if table.state == "only b" else _number(table.rows_a)
    b = "none" if table.state == "only a" else _number(table.rows_b)
    changed = "no key" if table.counted and table.changed is None else _number(table.changed)
    return table.table, a, b, _number(table.only_a), _number(table.only_b), changed


def _number(rows: int | None) -> str:
    return "?" if rows is None else units.number(rows)


def _remarks(report: DiffReport) -> Iterator[str]:
    """One line for each difference in structure, possible rename, and table that was not compared."""
    for table in report.tables:
        for names, side in ((table.columns_a, "A"), (table.columns_b, "B")):
            if names:
                columns = "column" if len(names) == 1 else "columns"
                yield f"{table.table}: {columns} {', '.join(names)} only in {side}, not compared"
        for each in table.types:
            yield f"{table.table}: column {each.column} is {each.a} in A and {each.b} in B, compared as text"
        for rename in table.renames:
            yield f"{table.table}: column {rename.a} may have become {rename.b} ({rename.why})"
    for rename in report.renames:
        yield f"table {rename.a} may have become {rename.b} ({rename.why})"
    for table in report.tables:
        if table.state == "not compared":
            yield f"not compared: {table.table}: {table.why}"
        elif table.why:
            yield f"{table.table}: {table.why}"


def _rows(part: TableRows, table: TableDifference) -> Iterator[Block]:
    columns = (TableColumn("row"), TableColumn("change"), TableColumn("values", fold=True))
    yield kinds.TableBlock(columns, [_row(row, table) for row in part.rows])
    if part.more:
        yield kinds.Paragraph(
            f"and {units.counted(part.more, 'more row')}; --format csv --output FOLDER writes all of them"
        )


def _row(row: RowDifference, table: TableDifference) -> tuple[str, str, str]:
    key = ", ".join(_value(value) for value in row.key)
    names = table.columns
    if row.change == "changed" and row.a is not None and row.b is not None:
        values = [
            f"{name}: {_value(old)} → {_value(new)}"
            for name, old, new in zip(names, row.a, row.b, strict=True)
            if name in row.columns
        ]
        return key, CHANGES[row.change], _joined(values)
    side = row.a if row.a is not None else row.b or ()
    return (
        key,
        CHANGES[row.change],
        _joined(f"{name}: {_value(value)}" for name, value in zip(names, side, strict=True) if name not in table.key),
    )


def _joined(values: Iterable[str]) -> str:
    return "; ".join(values) or "(no columns)"


def _value(value: str | None) -> str:
    if value is None:
        return "NULL"
    if not value:
        return "''"
    return value if len(value) <= LONGEST else f"{value[:LONGEST]}… ({units.counted(len(value), 'character')})"
