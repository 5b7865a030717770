"""The comparison of rows in a plan."""

from __future__ import annotations

from dataclasses import dataclass, field

from lastgood.config.tables import Loss
from lastgood.plan.loss import Compare


@dataclass(frozen=True, slots=True)
class Comparing:
    """The ``level`` of a comparison, the ``seconds`` for counting rows, and the columns to note. Digests have no limit,
    so that a table that differs is always found, unless the whole comparison is ``bounded`` by these seconds."""

    level: Compare = "count"
    seconds: float = 60.0
    rules: Loss = field(default_factory=Loss)
    bounded: bool = False

    @property
    def off(self) -> bool:
        """Whether no content is compared."""
        return self.level == "none" or not self.seconds
