"""The retention of restore points and kept databases."""

from __future__ import annotations

from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from lastgood.config.tables.kinds import Duration, Table


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):  # a wrong name may be that of a folder
        raise ValueError('unknown time zone: write it like "Europe/Berlin", or "UTC"') from None
    return name


class Keep(Table):
    """How many to keep: the newest of each hour, day, week, month or year, for the given number of periods; periods
    without any do not count. An item is kept if any rule keeps it."""

    last: int = Field(default=0, ge=0, description="The number of newest ones; a rule with 0 keeps none.")
    hourly: int = Field(default=0, ge=0, description="The number of hours, with the newest of each.")
    daily: int = Field(default=0, ge=0, description="The number of days, with the newest of each.")
    weekly: int = Field(default=0, ge=0, description="The number of weeks, from Monday on, with the newest of each.")
    monthly: int = Field(default=0, ge=0, description="The number of months, with the newest of each.")
    yearly: int = Field(default=0, ge=0, description="The number of years, with the newest of each.")
    within: Duration | None = Field(
        default=None,
        gt=0,
        description="All made within this time before the newest restore point; for kept databases, before now.",
    )

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not any((self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly, self.within)):
            raise ValueError("it keeps nothing: give numbers, as in { last = 3, daily = 7 }")
        return self


class Retention(Table):
    """The default retention of ``lastgood prune`` and ``lastgood backup --prune``. Items that are still needed are kept
    in any case."""

    keep: Keep | None = Field(default=None, description="Restore points; without this key all are kept.")
    kept: Keep | None = Field(default=None, description="Kept databases; without this key all are kept.")
    foreign: bool = Field(
        default=False, description="Whether this also removes restore points that lastgood did not make."
    )
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        default="UTC", description="The time zone of hours, days and weeks."
    )
