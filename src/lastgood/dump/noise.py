"""Foreign text in a dump's file: reported in notes if it is certain not to be part of the dump, otherwise an error."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lastgood.dump import patterns
from lastgood.dump.tokens import CopyStart, MetaCommand, Noise, Statement
from lastgood.errors import Corrupt

SAME_FILE = "Make the dump again without 2>&1: stderr went into the same file."
_BOM = b"\xef\xbb\xbf"
_MESSAGE_WITHIN = re.compile(rb"(?:^|\n|\S)(?=" + patterns.MESSAGE.pattern + rb")")


@dataclass(slots=True)
class _Lines:
    """The number of lines of a kind, and the first such line."""

    count: int = 0
    first: int = 0

    def add(self, line: int) -> None:
        self.first = self.first or line
        self.count += 1

    def note(self, one: str, many: str) -> list[str]:
        if not self.count:
            return []
        return [f"line {self.first} is {one}" if self.count == 1 else f"{self.count} lines, from {self.first}, {many}"]


class SkippedNoise:
    """The noise that was skipped in one text."""

    def __init__(self) -> None:
        self._messages = _Lines()
        self._marks = _Lines()
        self._behind = _Lines()

    def add(self, token: Noise, *, ended: bool) -> None:
        """Record noise; ``ended``: it is after the end of the dump."""
        if token.text == _BOM:
            self._marks.add(token.line)
        elif ended and patterns.MESSAGE.match(token.text) is None:
            self._behind.add(token.line)
        else:
            self._messages.add(token.line)

    def notes(self) -> list[str]:
        """Sentences without a full stop, for a summary."""
        message = "of pg_dump, not part of the dump"
        return [
            *self._messages.note(f"a message {message}; it was skipped", f"are messages {message}; skipped"),
            *(
                f"line {self._marks.first} has a byte order mark, which was skipped"
                for _ in range(self._marks.count)[:1]
            ),
            *self._behind.note(
                "after the end of the dump and not part of it; it was skipped",
                "are after the end of the dump and not part of it; they were skipped",
            ),
        ]

    def within(self, statement: Statement | CopyStart | MetaCommand) -> Corrupt | None:
        """The error for text that is not a command because messages of pg_dump are inside it, or split it; None for any
        other."""
        found = _MESSAGE_WITHIN.search(statement.text)
        line, offset = statement.line, statement.offset
        if found is not None:
            line += statement.text.count(b"\n", 0, found.end())
            offset += found.end()
            what = f"line {line}, within a command, is a message of pg_dump"
        elif self._messages.count and patterns.SQL.match(statement.text) is None:
            what = f"line {line} is separated from its command by messages of pg_dump"
        else:
            return None
        return Corrupt(f"cannot restore the dump: {what}", hint=SAME_FILE, line=line, offset=offset)
