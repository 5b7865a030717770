"""Selection of the moments that a retention policy keeps, with the rules that keep them.

The rules are those of restic's ``forget``: of each hour, day, week, month and year with any moments the newest is kept,
up to the rule's number. If the number is not used up, the oldest is kept too, so that the history reaches back as far
as possible. A moment is kept if any rule keeps it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from lastgood.config.tables import Keep
from lastgood.text import units


@dataclass(frozen=True, slots=True)
class _Rule:
    """A rule that keeps the newest moment of each of ``number`` periods; ``period`` names the period of a moment."""

    name: str
    number: int
    period: Callable[[datetime], str]


def rules_keeping(
    keep: Keep, moments: Sequence[datetime], *, zone: tzinfo, reference: datetime
) -> tuple[tuple[str, ...], ...]:
    """For each of ``moments``, in their order, the rules that keep it, in words; none if it is not kept.

    Hours, days, weeks, months and years are those of ``zone``. ``within`` counts back from ``reference``.
    """
    reasons: list[list[str]] = [[] for _ in moments]
    newest_first = sorted(range(len(moments)), key=lambda place: moments[place], reverse=True)
    for number, place in enumerate(newest_first[: keep.last], 1):
        reasons[place].append("the newest" if number == 1 else f"number {number} of the {keep.last} newest")
    for rule in _rules(keep):
        remaining, before = rule.number, ""
        for place in newest_first:
            if remaining == 0:
                break
            period = rule.period(moments[place].astimezone(zone))
            if period != before:
                reasons[place].append(f"{rule.name} {period}")
            elif place == newest_first[-1]:
                reasons[place].append(f"the oldest, while {rule.name} has room")
            else:
                continue
            before, remaining = period, remaining - 1
    if keep.within is not None:
        since = reference - timedelta(seconds=keep.within)
        for place in newest_first:
            if moments[place] > since:
                reasons[place].append(f"within {units.span(keep.within)}")
    return tuple(tuple(each) for each in reasons)


def _rules(keep: Keep) -> list[_Rule]:
    return [
        _Rule("hourly", keep.hourly, lambda moment: f"{moment:%Y-%m-%d %H}h"),
        _Rule("daily", keep.daily, lambda moment: f"{moment:%Y-%m-%d}"),
        _Rule("weekly", keep.weekly, lambda moment: f"{moment:%G-W%V}"),
        _Rule("monthly", keep.monthly, lambda moment: f"{moment:%Y-%m}"),
        _Rule("yearly", keep.yearly, lambda moment: f"{moment:%Y}"),
    ]
