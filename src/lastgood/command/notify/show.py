"""The notification targets and their state."""

from __future__ import annotations

from lastgood.notifications.listing import TargetList
from lastgood.screen.screen import Screen, TableColumn


def show(screen: Screen, found: TargetList) -> None:
    """Print every target, then the problems."""
    if not found.targets:
        screen.say("There are no targets: lastgood.toml has no [[notifications.targets]].", style="bold")
        return
    columns = (
        TableColumn("target", fold=True),
        TableColumn("address in", fold=True),
        TableColumn("events", fold=True),
        TableColumn("commands", fold=True),
        TableColumn("state"),
    )
    screen.table(
        columns,
        [
            (
                each.name,
                each.address_in,
                ", ".join(each.on),
                ", ".join(each.kinds),
                "failed" if each.problem else "sent" if found.sent else "valid",
            )
            for each in found.targets
        ],
    )
    failing = [each for each in found.targets if each.problem]
    if failing:
        screen.heading("Problems")
        for each in failing:
            screen.say(f"{each.name}: {each.problem}.", first="  ", indent=4)
            if each.hint:
                screen.say(each.hint, first="    ", indent=4)
    elif not found.sent:
        screen.heading("To send each of them a test: lastgood notify --test")
