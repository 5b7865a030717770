"""What is kept, and for how long."""

from __future__ import annotations

from typing import Annotated, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator

from lastgood.config.tables.kinds import Duration, Table


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (OSError, ValueError, ZoneInfoNotFoundError):  # what is no name of a zone may be one of a folder
        raise ValueError('no time zone is called so: write it like "Europe/Berlin", or "UTC"') from None
    return name


class Keep(Table):
    """How many are kept: the newest of each hour, day, week, month or year, of so many of them in which there are any.
    What one of the rules keeps is kept."""

    last: int = Field(default=0, ge=0, description="So many of the newest; a rule with 0 keeps none.")
    hourly: int = Field(default=0, ge=0, description="The newest of each of so many hours.")
    daily: int = Field(default=0, ge=0, description="The newest of each of so many days.")
    weekly: int = Field(default=0, ge=0, description="The newest of each of so many weeks, from Monday on.")
    monthly: int = Field(default=0, ge=0, description="The newest of each of so many months.")
    yearly: int = Field(default=0, ge=0, description="The newest of each of so many years.")
    within: Duration | None = Field(
        default=None,
        gt=0,
        description="All made so long before the newest restore point; of kept databases, before now.",
    )

    @model_validator(mode="after")
    def _keeps_something(self) -> Self:
        if not any((self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly, self.within)):
            raise ValueError("it keeps nothing: say how many, as in { last = 3, daily = 7 }")
        return self


class Retention(Table):
    """What ``lastgood prune`` and ``lastgood backup --prune`` keep when nothing else is said. What is still needed
    stays whatever stands here."""

    keep: Keep | None = Field(default=None, description="Restore points; without it all of them stay.")
    kept: Keep | None = Field(default=None, description="Kept databases; without it all of them stay.")
    foreign: bool = Field(
        default=False, description="Whether restore points that lastgood did not make may go by it too."
    )
    timezone: Annotated[str, AfterValidator(_known_zone)] = Field(
        default="UTC", description="Whose hours, days and weeks are meant."
    )
