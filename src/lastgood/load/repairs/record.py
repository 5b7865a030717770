"""The record of a load's omissions and repairs. Thread-safe."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from lastgood.dump.statements import Command
from lastgood.models import Frozen


class Repaired(Frozen):
    """A command or rows that the server did not accept unchanged: ``why``, and what was done. Line 0: a part of an
    extension that no dump holds, and was restored."""

    what: str
    why: str
    line: int


@dataclass(slots=True)
class Record:
    """``skipped``: (what, why) → (first line, how many) of commands that a rule left out, or that the server refused as
    a rule permits. ``repaired``: in chronological order."""

    skipped: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    repaired: list[Repaired] = field(default_factory=list)
    _left_out: set[int] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def skip(self, command: Command, why: str, named: str | None = None) -> None:
        """Record a command that was left out; once, even if each session has tried it. ``named``: the name to count it
        under, instead of its object's."""
        key = (named or what(command), why)
        with self._lock:
            if command.statement.offset in self._left_out:
                return
            self._left_out.add(command.statement.offset)
            line, count = self.skipped.get(key, (command.statement.line, 0))
            self.skipped[key] = (min(line, command.statement.line), count + 1)

    def add_skipped(self, named: str, why: str, line: int) -> None:
        """Record rows that were left out, or a command that had no effect."""
        with self._lock:
            first, count = self.skipped.get((named, why), (line, 0))
            self.skipped[named, why] = (min(first, line), count + 1)

    def repair(self, done: Repaired) -> bool:
        """Record a repair; False if another session has recorded it already."""
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
