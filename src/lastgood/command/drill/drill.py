"""Rehearsals: the whole procedure on a scratch server, and test restores of every restore point of a store.

``drill`` and ``prove_all`` leave evidence in the state folder; ``sign``, ``read`` and ``every`` work on that evidence.
"""

from __future__ import annotations

from lastgood.command.drill.all_points import prove_all
from lastgood.command.drill.evidence import DrillRequest, Evidence, StoreEvidence
from lastgood.command.drill.one import drill
from lastgood.command.drill.seal import Found, Render, Sealed, Unreadable, every, read, sign

__all__ = [
    "DrillRequest",
    "Evidence",
    "Found",
    "Render",
    "Sealed",
    "StoreEvidence",
    "Unreadable",
    "drill",
    "every",
    "prove_all",
    "read",
    "sign",
]
