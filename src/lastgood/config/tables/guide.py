"""The settings of the guide for operators."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.kinds import Duration, Table


class Guide(Table):
    """Additional content of ``lastgood guide``: the owner of the guide and its next review."""

    owner: str = Field(default="", description="The person or team who maintains the guide.")
    review_every: Duration = Field(
        default=90 * 86400.0, description="How long after it was written the next review is due."
    )
    related: tuple[str, ...] = Field(
        default=(), description="Related documents: a title with an address, or an address alone."
    )
