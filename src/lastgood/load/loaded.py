"""What a load did, added up by several threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from lastgood.dump.names import Relation
from lastgood.load.costs import Effort, Spent
from lastgood.load.repairs import Repaired


@dataclass(slots=True)
class Loaded:
    """``skipped``: (what, why) → (first line, how many) of commands left out by rule, or that the server may refuse and
    did. ``repaired``: what is there in another way than the dump has it. ``same``: tables that were read back and are,
    byte for byte, what the dump holds, with their rows. ``spent``: seconds of each kind
    of effort on ``size`` bytes of rows; empty where they tell nothing of the server's speed.
    """

    commands: int = 0
    rows: int = 0
    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    repaired: list[Repaired] = field(default_factory=list)
    same: dict[Relation, int] = field(default_factory=dict)
    spent: Mapping[Effort, Spent] = field(default_factory=dict)
    size: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, commands: int = 0, rows: int = 0) -> None:
        """Adds what was done."""
        with self._lock:
            self.commands += commands
            self.rows += rows
