"""The facts of a restore point or a database, and the differences between two."""

from __future__ import annotations

from lastgood.facts import Facts
from lastgood.facts.compare import FactsComparison
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units


def show(screen: Screen, facts: Facts) -> None:
    """Print a summary, then all tables, largest first."""
    migration = facts.migration
    screen.say(
        f"{units.counted(facts.rows, 'row')} in {units.counted(len(facts.tables), 'table')}"
        + (f' of "{facts.database}"' if facts.database else ""),
        style="bold",
    )
    screen.pairs(
        [
            ("Server", f"PostgreSQL {facts.server_version}" if facts.server_version else ""),
            (
                "Migration",
                f"{migration.version} in {migration.table}, {migration.applied} applied" if migration else "",
            ),
            ("Sequences", units.number(len(facts.sequences)) if facts.sequences else ""),
            ("Large objects", units.number(facts.large_objects.count) if facts.large_objects.count else ""),
            ("Extensions", ", ".join(f"{e.name} {e.version or ''}".strip() for e in facts.extensions)),
            (
                "Objects",
                ", ".join(f"{number} {kind}" for kind, number in sorted(facts.object_counts.items()) if number),
            ),
        ]
    )
    if facts.tables:
        screen.out.print()
    columns = (
        TableColumn("table", fold=True),
        TableColumn("rows", right=True),
        TableColumn("content digest"),
        TableColumn("newest"),
    )
    by_rows = sorted(facts.tables, key=lambda table: (-table.rows, table.schema_name, table.name))
    screen.table(
        columns,
        [
            (
                f"{table.schema_name}.{table.name}",
                "not recorded"
                if f"{table.schema_name}.{table.name}" in facts.not_recorded
                else units.number(table.rows),
                table.digest[:12] if table.digest else "none",
                max(table.newest.values(), default="")[:19],
            )
            for table in by_rows
        ],
    )


def show_comparison(screen: Screen, comparison: FactsComparison, expected: str, found: str) -> None:
    """Print every difference, or that there is none, then what could not be compared."""
    tables = units.counted(len(comparison.tables), "table")
    if comparison.equal:
        rows = sum(table.rows for table in comparison.tables)
        screen.say(f"Equal: {expected} and {found}, {tables}, {units.counted(rows, 'row')}.", style="bold green")
    else:
        number = units.counted(len(comparison.differences), "difference")
        screen.say(f"{number} between {expected} (expected) and {found} (found)", style="bold")
        screen.out.print()
        columns = (TableColumn("what", fold=True), TableColumn("expected", fold=True), TableColumn("found", fold=True))
        screen.table(columns, [(d.what, d.expected, d.found) for d in comparison.differences])
    for text in comparison.not_compared:
        screen.say(text, first="  not compared: ", indent=4)
