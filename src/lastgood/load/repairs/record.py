"""What a load left out and what it repaired; any thread may add to it."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lastgood.dump.statements import Command
from lastgood.models import Frozen


class Repaired(Frozen):
    """A command of the dump, at ``line``, that the server did not take as it stands, or rows that it did not: ``why``,
    and what was done instead. Line 0: what no dump holds, and was put back."""

    what: str
    why: str
    line: int


@dataclass(slots=True)
class Record:
    """``skipped``: (what, why) → (first line, how many) of commands left out by rule, or that the server may refuse
    and did. ``repaired``: in the order in which it was done."""

    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    repaired: list[Repaired] = field(default_factory=list)
    _left_out: set[int] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def skip(self, command: Command, why: str, named: str | None = None) -> None:
        """Record a command that was left out; once, though each session may have tried it. ``named``: what it is
        counted under, instead of the object that it is about."""
        key = (named or what(command), why)
        with self._lock:
            if command.statement.offset in self._left_out:
                return
            self._left_out.add(command.statement.offset)
            line, count = self.skipped.get(key, (command.statement.line, 0))
            self.skipped[key] = (min(line, command.statement.line), count + 1)

    def pass_over(self, named: str, why: str, line: int) -> None:
        """Record rows that were left out, or a command that had no effect."""
        with self._lock:
            first, count = self.skipped.get((named, why), (line, 0))
            self.skipped[named, why] = (min(first, line), count + 1)

    def repair(self, done: Repaired) -> bool:
        """Records a repair; False when it was known already, from another session."""
        with self._lock:
            if done in self.repaired:
                return False
            self.repaired.append(done)
            return True


def what(command: Command) -> str:
    """A command in a few words: ``index public.a_b_idx``, ``grant on public.t``."""
    if command.creates:
        return f"{command.creates[0].kind} {command.creates[0].identity}"
    return f"{command.kind} on {command.relations[0]}" if command.relations else str(command.kind)


def place(name: str, line: int, offset: int | None, named: str) -> str:
    """A place in a dump, for messages: ``line 7 of "good.sql" (byte 120, index public.a_b_idx)``; 0 is no line."""
    byte = "" if offset is None else f"byte {offset}, "
    where = f'line {line} of "{name}"' if line else f'"{name}"'
    return f"{where} ({byte}{named})"
