"""What a load did, added up by several threads."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command
from lastgood.engine.costs import Known


@dataclass(slots=True)
class Loaded:
    """``skipped``: (what, why) → (first line, how many) of commands left out by rule, or that the server may refuse and
    did. ``same``: tables that were read back and are, byte for byte, what the dump holds, with their rows. ``known``:
    what work costs on this server, with what this load has taught.
    """

    commands: int = 0
    rows: int = 0
    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    same: dict[Relation, int] = field(default_factory=dict)
    known: Known = field(default_factory=Known)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, *, commands: int = 0, rows: int = 0) -> None:
        """Adds what was done."""
        with self._lock:
            self.commands += commands
            self.rows += rows

    def skip(self, command: Command, why: str) -> None:
        """Records a command that was left out."""
        self.skip_text(what(command), why, command.statement.line)

    def skip_text(self, named: str, why: str, line: int) -> None:
        """The same for what is named already."""
        with self._lock:
            first, count = self.skipped.get((named, why), (line, 0))
            self.skipped[named, why] = (min(first, line), count + 1)


def what(command: Command) -> str:
    """A command in a few words: ``index public.a_b_idx``, ``grant on public.t``."""
    if command.creates:
        return f"{command.creates[0].kind} {command.creates[0].identity}"
    return f"{command.kind} on {command.relations[0]}" if command.relations else str(command.kind)
