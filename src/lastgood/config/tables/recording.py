"""The tasks after a rollback, and their deadline."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from lastgood.config.tables.kinds import Duration, Table


def _lines(items: tuple[str, ...]) -> tuple[str, ...]:
    for number, item in enumerate(items):
        if not item.strip() or item != item.strip() or not item.isprintable():
            raise ValueError("each item must be a line of text, without spaces around it")
        if item in items[:number]:
            raise ValueError(f'it contains "{item}" twice')
    return items


class Record(Table):
    """Tasks that ``lastgood report`` and ``lastgood status`` require after a rollback."""

    post_mortem_within: Duration = Field(
        default=48 * 3600.0, description="How long after a rollback its post-mortem is due; 0 requires none."
    )
    checklist: Annotated[tuple[str, ...], AfterValidator(_lines)] = Field(
        default=(),
        description="Your own items for the checklist after a rollback, completed with --done ITEM --by NAME.",
    )
