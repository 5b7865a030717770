"""The result of a load, collected by several threads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

from lastgood.dump.names import Relation
from lastgood.load.costs import Effort, Spent
from lastgood.load.repairs import Repaired


@dataclass(slots=True)
class Loaded:
    """``skipped``: (what, why) → (first line, how many) of commands that a rule left out, or that the server refused as
    a rule permits. ``repaired``: objects that differ from the dump. ``same``: tables that were read back and match the
    dump byte for byte, with their row counts. ``spent``: seconds of each kind of effort on ``size`` bytes of rows;
    empty if they do not reflect the server's speed.
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
        """Add commands and rows."""
        with self._lock:
            self.commands += commands
            self.rows += rows
