"""What the guide for operators says of itself."""

from __future__ import annotations

from pydantic import Field

from lastgood.config.tables.kinds import Duration, Table


class Guide(Table):
    """What ``lastgood guide`` writes besides what it finds: whose guide it is, and when it must be looked through."""

    owner: str = Field(default="", description="Who keeps the guide right: a person or a team.")
    review_every: Duration = Field(
        default=90 * 86400.0, description="How long after it was written somebody must look it through again."
    )
    related: tuple[str, ...] = Field(
        default=(), description="Related documents: a title with an address, or an address alone."
    )
