"""Rehearsals: the whole procedure on a scratch server, and test restores of every restore point of a store.

``drill`` and ``prove_all`` leave evidence in the state folder; ``sign``, ``read`` and ``every`` work on that evidence.
"""

from __future__ import annotations

from lastgood.command.drill.all_points import prove_all
from lastgood.command.drill.evidence import DrillEvidence, DrillRequest, StoreEvidence
from lastgood.command.drill.one import drill
from lastgood.command.drill.seal import Render, Sealed, StoredEvidence, UnreadableEvidence, every, read, sign

__all__ = [
    "DrillEvidence",
    "DrillRequest",
    "Render",
    "Sealed",
    "StoreEvidence",
    "StoredEvidence",
    "UnreadableEvidence",
    "drill",
    "every",
    "prove_all",
    "read",
    "sign",
]
