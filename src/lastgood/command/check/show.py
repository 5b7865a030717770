"""The checklist as text: each item with its verdict, the findings, their source, and the next command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lastgood.text import units

if TYPE_CHECKING:
    from lastgood.checklist import Checklist, ItemResult
    from lastgood.command.check.check import CheckReport, Rights
    from lastgood.screen.screen import Screen

STYLES = {"PASS": "", "WARN": "yellow", "FAIL": "bold red"}
VERDICTS = {"GO": "bold green", "GO WITH WARNINGS": "bold yellow", "NO-GO": "bold red"}


def show(screen: Screen, report: CheckReport) -> None:
    """Print all items, and the verdict last, where it stays visible on a terminal."""
    where = f" ({report.server})" if report.server else ""
    screen.say(
        f'Checklist: a rollback of "{report.live}" on PostgreSQL {report.server_version}{where}, '
        f"{units.moment(report.checked_at)}",
        style="bold",
    )
    screen.out.print()
    for item in report.checklist.items:
        _item(screen, item)
    if report.checklist.verdict == "NO-GO":
        show_grants(screen, report.grants)
    screen.out.print()
    screen.say(f"{report.checklist.verdict}: {counted(report.checklist)}", style=VERDICTS[report.checklist.verdict])
    screen.say(f"Nothing was changed. The check took {units.duration(report.seconds)}.")


def _item(screen: Screen, item: ItemResult) -> None:
    screen.say(item.title, first=f"  {item.status}  ", indent=8, style=STYLES[item.status])
    mixed = len({line.status for line in item.lines}) > 1
    for line in item.lines:
        mark = f"{line.status}: " if mixed and line.status != "PASS" else ""
        screen.say(f"{mark}{line.text} [{line.known}]", first="        ", indent=10)
        if line.hint:
            screen.say(line.hint, first="          next: ", indent=16)
    if item.status == "FAIL":
        what = (
            f"To continue despite it: --override {item.name} --reason TEXT"
            if item.can_override
            else "This item cannot be overridden."
        )
        screen.say(what, first="          ", indent=10)


def show_grants(screen: Screen, grants: Sequence[str]) -> None:
    """Print what a superuser must grant the role, as a block to copy into psql."""
    if grants:
        screen.heading("For a rollback by name, a superuser runs this once, in psql")
        for statement in grants:
            screen.say(statement, first="  ", indent=2)


def counted(checklist: Checklist) -> str:
    """Return how many items passed, and the names of the others."""
    passed = len(checklist.names("PASS"))
    summary = f"{passed} of {units.counted(len(checklist.items), 'item')} passed"
    for status in ("FAIL", "WARN"):
        if names := checklist.names(status):
            summary += f"; {status}: {', '.join(names)}"
    return summary


def show_rights(screen: Screen, found: Rights) -> None:
    """Print what the role may do, a line each."""
    screen.say(f'Rights of role "{found.role}" in "{found.live}"', style="bold")
    for each in found.rights:
        screen.say(each.text, first="  yes  " if each.able else "  no   ", indent=7)
    screen.pairs(
        [
            ("Rolled back", ", ".join(found.schemas) or "no schema"),
            ("Not rolled back", ", ".join(f"{schema} ({reason})" for schema, reason in found.staying.items())),
            ("By name", "possible" if found.by_name else "not possible"),
            ("In place", "possible" if found.in_place else "not possible"),
        ]
    )
    show_grants(screen, found.grants)
