"""The plan and the result of a prune."""

from __future__ import annotations

from typing import Any

from lastgood.command.prune.prune import PrunePlan
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units


def show(screen: Screen, plan: PrunePlan) -> None:
    """Print all candidates, those to remove first."""
    going = plan.going
    if not going:
        screen.say("Nothing would be removed.", style="bold")
    else:
        freed = units.size(sum(each.bytes for each in going))
        screen.say(f"Would remove {units.counted(len(going), 'item')} ({freed}) permanently:", style="bold")
    if plan.timezone is not None:
        screen.say(
            f"By [retention] of lastgood.toml; days and weeks in time zone {plan.timezone}.", first="  ", indent=2
        )
    if not plan.candidates:
        return
    screen.out.print()
    columns = (
        TableColumn(""),
        TableColumn("name", fold=True),
        TableColumn("what"),
        TableColumn("made"),
        TableColumn("size", right=True),
    )
    screen.table(
        (*columns, TableColumn("why", fold=True)),
        [
            (
                "remove" if each.remove else "keep",
                each.name,
                each.kind,
                units.ago(each.made_at) if each.made_at is not None else "",
                units.size(each.bytes),
                each.why,
            )
            for each in sorted(plan.candidates, key=lambda each: not each.remove)
        ],
    )


def show_done(screen: Screen, document: dict[str, Any]) -> None:
    """Print what was removed."""
    removed = document["removed"]
    screen.say(f"Done: {units.counted(len(removed), 'item')} removed.", style="bold green")
    for name in removed:
        screen.say(name, first="  - ", indent=4)
