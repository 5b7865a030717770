"""What got into a dump's file and is no part of it: told in notes where that is certain, an error where it is not."""

from __future__ import annotations

import re
from dataclasses import dataclass

from lastgood.dump import patterns
from lastgood.dump.tokens import CopyStart, MetaCommand, Noise, Statement
from lastgood.errors import Corrupt

SAME_FILE = "It was made with stderr sent to the same file; make it again without 2>&1."
_BOM = b"\xef\xbb\xbf"
_MESSAGE_WITHIN = re.compile(rb"(?:^|\n|\S)(?=" + patterns.MESSAGE.pattern + rb")")


@dataclass(slots=True)
class _Lines:
    """How many lines of a kind there were, and where the first one stood."""

    count: int = 0
    first: int = 0

    def add(self, line: int) -> None:
        self.first = self.first or line
        self.count += 1

    def told(self, one: str, many: str) -> list[str]:
        if not self.count:
            return []
        return [f"line {self.first} is {one}" if self.count == 1 else f"{self.count} lines, from {self.first}, {many}"]


class Seen:
    """The noise that was passed over in one text."""

    def __init__(self) -> None:
        self._messages = _Lines()
        self._marks = _Lines()
        self._behind = _Lines()

    def add(self, token: Noise, *, ended: bool) -> None:
        """``ended``: it stands behind the end of the dump."""
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
            *self._messages.told(f"a message {message}; it was passed over", f"are messages {message}; passed over"),
            *(
                f"line {self._marks.first} has a byte order mark, which was passed over"
                for _ in range(self._marks.count)[:1]
            ),
            *self._behind.told(
                "behind the end of the dump and no part of it; it was passed over",
                "are behind the end of the dump and no part of it; they were passed over",
            ),
        ]

    def within(self, statement: Statement | CopyStart | MetaCommand) -> Corrupt | None:
        """The error for a command that is none because messages of pg_dump stand in it, or tore it up before."""
        found = _MESSAGE_WITHIN.search(statement.text)
        line, offset = statement.line, statement.offset
        if found is not None:
            line += statement.text.count(b"\n", 0, found.end())
            offset += found.end()
            what = f"line {line}, within a command, is a message of pg_dump"
        elif self._messages.count and patterns.SQL.match(statement.text) is None:
            what = f"line {line} is torn off from what it belongs to by messages of pg_dump"
        else:
            return None
        return Corrupt(f"cannot restore the dump: {what}", hint=SAME_FILE, line=line, offset=offset)
