"""The policies for collisions: rows that both sides have changed, and rows that miss another one."""

from __future__ import annotations

from typing import Literal, Self, get_args

from pydantic import model_validator

from lastgood.errors import UsageError
from lastgood.models import Frozen

Collision = Literal[
    "insert_exists",
    "update_missing",
    "update_origin_differs",
    "delete_origin_differs",
    "unique_exists",
    "parent_missing",
    "parent_differs",
    "child_exists",
]
Choice = Literal["skip", "fail", "ours", "theirs", "renumber"]

MEANINGS: dict[Collision, str] = {
    "insert_exists": "the live database has another row with this key",
    "update_missing": "the live database no longer has the row",
    "update_origin_differs": "the kept and the live database changed the same columns of the row",
    "delete_origin_differs": "the row was deleted after the restore point, but changed in the live database since",
    "unique_exists": "another row of the live database has the same unique value",
    "parent_missing": "the row it references does not exist in the live database",
    "parent_differs": "the key it references now belongs to another row",
    "child_exists": "rows of the live database reference this deleted row",
}
_ALLOWED: dict[Collision, tuple[Choice, ...]] = {
    "insert_exists": ("skip", "fail", "ours", "theirs", "renumber"),
    "update_missing": ("skip", "fail", "ours", "theirs"),
    "update_origin_differs": ("skip", "fail", "ours", "theirs"),
    "delete_origin_differs": ("skip", "fail", "ours", "theirs"),
    "unique_exists": ("skip", "fail"),
    "parent_missing": ("skip", "fail"),
    "parent_differs": ("skip", "fail"),
    "child_exists": ("skip", "fail"),
}
COLLISIONS: tuple[Collision, ...] = get_args(Collision)


class Policies(Frozen):
    """What to do about each collision. ``skip`` leaves the row as it is in the live database and reports it; ``fail``
    ends the salvage; ``theirs`` takes the row of the kept database; ``ours`` is the same as ``skip``. In
    ``update_origin_differs`` both decide only about the columns in conflict. ``renumber`` inserts the row with a new
    number, and changes the references to it."""

    insert_exists: Choice = "skip"
    update_missing: Choice = "skip"
    update_origin_differs: Choice = "skip"
    delete_origin_differs: Choice = "skip"
    unique_exists: Choice = "skip"
    parent_missing: Choice = "skip"
    parent_differs: Choice = "skip"
    child_exists: Choice = "skip"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for collision in COLLISIONS:
            if self.of(collision) not in _ALLOWED[collision]:
                raise ValueError(f"{collision} cannot be {self.of(collision)}: use {', '.join(_ALLOWED[collision])}")
        return self

    def of(self, collision: Collision) -> Choice:
        """The policy for one collision."""
        found: Choice = getattr(self, collision)
        return found


STRICT = Policies.model_validate(dict.fromkeys(COLLISIONS, "fail"))
"""Any collision ends the work."""


def parse(given: list[str]) -> Policies:
    """Policies from ``COLLISION=CHOICE``. Raises UsageError."""
    found: dict[str, Choice] = {}
    for text in given:
        name, _, choice = text.partition("=")
        collision = next((each for each in COLLISIONS if each == name), None)
        if collision is None:
            raise UsageError(
                f'cannot use --on "{text}": unknown collision',
                hint=f"Use one of: {', '.join(COLLISIONS)}. Example: --on insert_exists=renumber",
            )
        allowed = next((each for each in _ALLOWED[collision] if each == choice), None)
        if allowed is None:
            raise UsageError(
                f'cannot use --on "{text}": no such choice for {collision}',
                hint=f"Use one of: {', '.join(f'{collision}={each}' for each in _ALLOWED[collision])}.",
            )
        found[collision] = allowed
    return Policies.model_validate(found)
