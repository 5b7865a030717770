"""The guide's own commands, executed as an operator would who has nothing but psql."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lastgood.procedure.drill.evidence import Proof

if TYPE_CHECKING:
    from lastgood.procedure.drill.story import Rehearsal


def by_hand(rehearsal: Rehearsal) -> Proof | None:
    """What came of it; None where there is no guide."""
    return None
