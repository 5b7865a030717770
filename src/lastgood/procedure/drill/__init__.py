"""Rehearsals: the whole procedure on a scratch server, and every restore point of a store really restored.

``drill`` and ``prove_all`` leave evidence in the state folder; ``sign`` and ``show`` are about what lies there.
"""

from __future__ import annotations

from lastgood.procedure.drill.all_points import prove_all
from lastgood.procedure.drill.evidence import Evidence, StoreEvidence
from lastgood.procedure.drill.one import drill
from lastgood.procedure.drill.request import DrillRequest
from lastgood.procedure.drill.seal import Found, Render, Sealed, Unreadable, every, read, sign

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
