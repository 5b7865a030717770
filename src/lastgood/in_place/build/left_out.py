"""Rows that differ from the restore point on purpose, with the digests that keep its proof exact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

# Every look at marks loads this module; few need facts.
if TYPE_CHECKING:
    from lastgood.facts import TableFacts


class LeftOut(BaseModel):
    """The rows of one table that followed the rule of a foreign key because their platform parent was deleted:
    ``removed`` rows were left out, ``changed`` rows were changed. Names are live names.

    ``without`` and ``instead`` are digests (32 hex digits) of all these rows as the restore point has them, and of the
    changed rows as they are now: digest(point) - without + instead = digest(staging).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_name: str
    table: str
    removed: int
    changed: int
    without: str
    instead: str

    def applied(self, facts: TableFacts) -> TableFacts:
        """The facts of the table after the change; newest time stamps and an unknown digest stay out."""
        from lastgood.facts.digest import MODULUS

        digest = None
        if facts.digest is not None:
            total = int(facts.digest, 16) - int(self.without, 16) + int(self.instead, 16)
            digest = f"{total % MODULUS:032x}"
        return facts.model_copy(update={"rows": facts.rows - self.removed, "digest": digest, "newest": {}})
