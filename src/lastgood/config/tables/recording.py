"""What is to be done after a rollback, and by when."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from lastgood.config.tables.kinds import Duration, Table


def _lines(items: tuple[str, ...]) -> tuple[str, ...]:
    for number, item in enumerate(items):
        if not item.strip() or item != item.strip() or not item.isprintable():
            raise ValueError("each item must be a line of text, without spaces around it")
        if item in items[:number]:
            raise ValueError(f'it has "{item}" twice')
    return items


class Record(Table):
    """What ``lastgood report`` and ``lastgood status`` ask for after a rollback."""

    post_mortem_within: Duration = Field(
        default=48 * 3600.0, description="How long after a rollback its post-mortem is due; 0 asks for none."
    )
    checklist: Annotated[tuple[str, ...], AfterValidator(_lines)] = Field(
        default=(), description="Items of your own for the checklist after, each answered with --done ITEM --by NAME."
    )
