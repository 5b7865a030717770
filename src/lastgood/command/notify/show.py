"""Who is told of runs, and whether they can be."""

from __future__ import annotations

from lastgood.notifications.listing import Listing
from lastgood.screen.screen import Column, Screen


def show(screen: Screen, found: Listing) -> None:
    """Every target, and below it what is wrong."""
    if not found.targets:
        screen.say("Nobody is told: lastgood.toml has no [[notifications.targets]].", style="bold")
        return
    columns = (
        Column("target", fold=True),
        Column("address in", fold=True),
        Column("told of", fold=True),
        Column("of each", fold=True),
        Column("state"),
    )
    screen.table(
        columns,
        [
            (
                each.name,
                each.address_in,
                ", ".join(each.on),
                ", ".join(each.kinds),
                "wrong" if each.problem else "told" if found.sent else "right",
            )
            for each in found.targets
        ],
    )
    wrong = [each for each in found.targets if each.problem]
    if wrong:
        screen.heading("What is wrong")
        for each in wrong:
            screen.say(f"{each.name}: {each.problem}.", first="  ", indent=4)
            if each.hint:
                screen.say(each.hint, first="    ", indent=4)
    elif not found.sent:
        screen.heading("To send each of them a test: lastgood notify --test")
