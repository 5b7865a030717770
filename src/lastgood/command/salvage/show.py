"""A salvage on the screen: what there is, what is done, what was done."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lastgood.salvage.choosing import DELETION, MIGRATION, UNKNOWN
from lastgood.salvage.merge import VALUE_REQUIRED
from lastgood.salvage.origin import NO_END, Migration
from lastgood.salvage.plan import LeftColumn, LeftTable, SalvagePlan, SalvageReport
from lastgood.salvage.policy import COLLISIONS, MEANINGS
from lastgood.salvage.references import NOT_CHOSEN
from lastgood.salvage.transaction import TableSummary
from lastgood.salvage.undo import SalvageUndoPlan
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units
from lastgood.text.quoting import identifier

SHOWN = 30
REASONS: dict[str, str] = {
    MIGRATION: "written by the migration (transactions above); to include them: --with-migration or --transaction",
    UNKNOWN: "written again after the migration, with values that may be its own (see the notes)",
    DELETION: "deleted after the restore point (a row whose key changed counts as deleted and inserted); "
    "to delete them again: --deletes",
    VALUE_REQUIRED: "new rows need a value in a column that only the live database has (see the notes)",
    NOT_CHOSEN: "not chosen",
    **{str(collision): meaning for collision, meaning in MEANINGS.items()},
}


def show_plan(screen: Screen, plan: SalvagePlan, *, proposing: bool = False) -> None:
    """Print the plan: the sides, each table, what is left out and why."""
    screen.say(f'Plan: bring rows back into "{plan.live}"', style="bold")
    screen.out.print()
    screen.pairs(
        [
            ("Restore point", f"{Path(plan.base.path).name}, made {units.moment(plan.base.made_at)}"),
            ("Rows from", f'{plan.theirs.kind} "{plan.theirs.name}"'),
            ("Audit table", plan.audit),
            ("Method", "COPY through this machine; one transaction"),
            ("Triggers", "disabled during the salvage; foreign keys are checked before the commit"),
            ("Left out", "; ".join(_transactions(each) for each in plan.migrations)),
        ]
    )
    _tables(screen, plan.tables)
    _left(screen, plan.tables)
    theirs = plan.theirs.kind if plan.theirs.run else f'{plan.theirs.kind} "{plan.theirs.name}"'
    remarks = [
        *plan.remarks,
        *(f"{name}: cannot be salvaged, and is left out: {why}" for name, why in plan.refused.items()),
        *(_left_table(each, theirs) for each in plan.left_tables),
        *(_left_column(each, theirs) for each in plan.left_columns),
        *(f"not compared: {text}" for text in plan.not_compared),
        *_column_remarks(plan.tables),
    ]
    if remarks:
        screen.heading("Notes")
        for text in remarks:
            screen.say(text, first="  - ", indent=4)
    screen.out.print()
    screen.say("Nothing was changed yet.", style="bold")
    if proposing and plan.written:
        screen.heading("To bring them back: lastgood salvage apply")
        screen.say("To choose rows: lastgood salvage choose; or lastgood salvage plan > salvage.toml, and edit it")


def _left_table(table: LeftTable, theirs: str) -> str:
    rows = "rows" if table.rows is None else units.counted(table.rows, "row")
    name = f"{table.schema_name}.{table.name}"
    if table.lacking == "theirs":
        return f"{name}: {rows} in the restore point; the {theirs} has no such table, so nothing is brought back"
    if not table.created:
        return (
            f"{name}: {rows} not brought back: the live database no longer has this table; to bring them back, create "
            "it again, or rename it back"
        )
    how = f"if it was renamed: --renamed {table.renamed or f'{name}=TABLE'}"
    return f"{name}: {rows} not brought back: only the {theirs} has this table; {how}"


def _left_column(column: LeftColumn, theirs: str) -> str:
    name = f'{column.schema_name}.{column.name}: column "{column.column}"'
    where = "the restore point lacks it" if column.live else f"only the {theirs} has it"
    if column.rows == 0:
        return f"{name}: {where}, without values to bring back"
    values = "its values" if column.rows is None else f"its values in {units.counted(column.rows, 'row')}"
    how = f"; if it was renamed: --renamed {column.renamed}" if column.renamed else ""
    return f"{name}: {values} are not brought back: {where}{how}"


def _transactions(found: Migration) -> str:
    if found.last == NO_END:
        return f"transaction {found.first} and all later ones: {found.by} was killed, so its end is unknown"
    numbers = f"transaction {found.first}"
    return f"{numbers if found.first == found.last else f'transactions {found.first} to {found.last}'}: {found.by}"


def _tables(screen: Screen, tables: Sequence[TableSummary]) -> None:
    if not tables:
        screen.heading("No rows differ.")
        return
    screen.heading("What will be done")
    columns = (
        TableColumn("table", fold=True),
        TableColumn("insert", right=True),
        TableColumn("update", right=True),
        TableColumn("delete", right=True),
        TableColumn("already present", right=True),
        TableColumn("left out", right=True),
    )
    ordered = sorted(tables, key=lambda each: -sum(one.rows for one in each.sums))
    screen.table(
        columns,
        [
            (
                f"{each.schema_name}.{each.name}",
                *(units.number(each.rows(action)) for action in ("insert", "update", "delete")),
                units.number(sum(one.rows for one in each.sums if one.action is None and one.why == "there")),
                units.number(sum(each.left.values())),
            )
            for each in ordered[:SHOWN]
        ],
    )
    if len(ordered) > SHOWN:
        screen.say(f"and {len(ordered) - SHOWN} more tables; --json lists all of them", first="  ", indent=2)


def _left(screen: Screen, tables: Sequence[TableSummary]) -> None:
    if not any(each.left for each in tables):
        return
    screen.heading("Left out")
    for each in tables:
        table = f"{each.schema_name}.{each.name}"
        for why, rows in each.left.items():
            name = f"{why}: " if why in COLLISIONS else ""
            text = f"{table}: {units.counted(rows, 'row')}: {name}{REASONS.get(why, why)}"
            if why == "update_origin_differs" and each.conflicts:
                text += f" ({', '.join(_conflict(each, *one) for one in each.conflicts.items())})"
                text += "; to merge the other columns: --on update_origin_differs=ours"
                text += "".join(f"; to merge by JSON key: --merge-json {table}.{one}" for one in each.unmerged_json)
            if samples := each.samples.get(why):
                text += f"; such as {'; '.join(samples)}"
            screen.say(text, first="  - ", indent=4)


def _conflict(table: TableSummary, column: str, rows: int) -> str:
    keys = table.json_conflicts.get(column, {})
    shown = ", ".join(f"{key} {count:,}" for key, count in keys.items())
    return f"{column} {rows:,}{f' [{shown}]' if keys else ''}"


def _column_remarks(tables: Sequence[TableSummary]) -> list[str]:
    found = []
    for each in tables:
        name = f"{each.schema_name}.{each.name}"
        if each.only_ours and not each.lacking:
            found.append(
                f"{name}: only the live database has the column {', '.join(each.only_ours)}; new rows get its default"
            )
        if each.lacking:
            table = f"{identifier(each.schema_name)}.{identifier(each.name)}"
            found.append(
                f"{name}: no row can be inserted without a value in {', '.join(each.lacking)}; to insert rows, give it "
                f"a default: ALTER TABLE {table} ALTER {identifier(each.lacking[0])} SET DEFAULT …"
            )
        found += [f'{name}: column "{column}": JSON objects are merged by key' for column in each.merged_json]
        for column, rows in each.migrated.items():
            found.append(
                f'{name}: column "{column}": {units.counted(rows, "row")} written again after the migration still with '
                f"its value, which is not brought back; to include it: --column {name}.{column}"
            )
        for one in each.unknown:
            numbers = " ".join(f"--transaction {number}" for number in one.transactions)
            found.append(
                f'{name}: column "{one.column}": {units.counted(one.rows, "row")} written again after the migration, '
                "with a value that may be its own or a user's and is not brought back; to include it: "
                f"--column {name}.{one.column}, or {numbers}"
            )
        if each.renumbered:
            found.append(f"{name}: {units.counted(each.renumbered, 'row gets', 'rows get')} a new key")
        if not each.key:
            found.append(f"{name}: no key: identical rows are counted")
    return found


def show_report(screen: Screen, report: SalvageReport) -> None:
    """Print what was done."""
    if report.status == "nothing to do":
        screen.say(f'Nothing to do: no selected row has to be written into "{report.live}".', style="bold green")
        _left(screen, report.tables)
        return
    what = (
        f"the salvage {report.undoes} was undone" if report.undoes else f'rows were brought back into "{report.live}"'
    )
    screen.say(f"Done: {what}.", style="bold green")
    screen.say(
        f"{units.number(report.inserted)} inserted, {units.number(report.updated)} updated, "
        f"{units.number(report.deleted)} deleted. Verified before the commit: every row is as planned, and no other "
        "row changed.",
        first="  ",
        indent=2,
    )
    for table, path in report.new_keys.items():
        screen.say(f'{table}: old and new keys are in "{path}".', first="  ", indent=2)
    _left(screen, report.tables)
    screen.out.print()
    screen.command("To undo it:", report.undo_command, style="bold")


def show_undo_plan(screen: Screen, plan: SalvageUndoPlan) -> None:
    """Print the plan of an undo."""
    screen.say(f'Plan: undo the salvage {plan.undoes} in "{plan.live}"', style="bold")
    _tables(screen, plan.tables)
    screen.out.print()
    screen.say("Nothing was changed yet.", style="bold")
