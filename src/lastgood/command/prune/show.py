"""The plan and the result of a prune."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from lastgood.command.prune.plan import PruneCandidate, PrunePlan
from lastgood.screen.screen import Screen, TableColumn
from lastgood.text import units

REASONS = 3


def show(screen: Screen, plan: PrunePlan) -> None:
    """Print all candidates, those to remove first."""
    going = plan.going
    removed = f"Would remove {_counted(going)} permanently." if going else "Nothing would be removed."
    screen.say(f"{removed}{_staying(plan.candidates)}", style="bold")
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


def _counted(items: Sequence[PruneCandidate]) -> str:
    return f"{units.counted(len(items), 'item')} ({units.size(sum(each.bytes for each in items))})"


def _staying(candidates: Sequence[PruneCandidate]) -> str:
    """Return what stays, and why, in one sentence."""
    staying = [each for each in candidates if not each.remove]
    if not staying:
        return ""
    reasons = Counter(each.why for each in staying).most_common()
    shown = ", ".join(f"{count} ({why.replace(';', ',')})" for why, count in reasons[:REASONS])
    more = f", {sum(count for _, count in reasons[REASONS:])} for other reasons" if len(reasons) > REASONS else ""
    return f" {_counted(staying)} {'stays' if len(staying) == 1 else 'stay'}: {shown}{more}."


def show_done(screen: Screen, document: dict[str, Any]) -> None:
    """Print what was removed."""
    removed = document["removed"]
    screen.say(f"Done: {units.counted(len(removed), 'item')} removed.", style="bold green")
    for name in removed:
        screen.say(name, first="  - ", indent=4)
