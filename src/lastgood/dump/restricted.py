r"""Signs that a file was truncated or changed by a tool: ``\restrict``, and the lines after the dump's end."""

from __future__ import annotations

import re

from lastgood.dump.tokens import Comment, MetaCommand, Statement

_COMMENTED = re.compile(rb"--\s*\\(?:un)?restrict\b")
_WITHIN = re.compile(rb"\n--\s*\\(?:un)?restrict\b")


class Restricted:
    """The state of ``\\restrict`` in one text; ``cautions`` are complete at its end."""

    def __init__(self) -> None:
        self._key: bytes | None = None
        self._commented = 0
        self._within = 0
        self._unclosed = False
        self._found: list[str] = []

    def end_marker(self) -> None:
        """Record the comment that the dump is complete; ``--`` and the end of ``\\restrict`` follow."""
        self._unclosed = True

    def comment(self, token: Comment) -> None:
        if token.text.rstrip() == b"--":
            self._unclosed = False
        elif not self._commented and _COMMENTED.match(token.text):
            self._commented = token.line

    def statement(self, token: Statement) -> None:
        if self._commented and not self._within and (found := _WITHIN.search(token.text)) is not None:
            self._within = token.line + token.text.count(b"\n", 0, found.start() + 1)

    def cut_off(self, token: MetaCommand) -> bool:
        r"""Whether a psql command is the truncated beginning of the expected ``\unrestrict``."""
        if self._key is None:
            return False
        due = rb"\unrestrict " + self._key
        return token.text != due and due.startswith(token.text)

    def psql(self, name: str, key: str, line: int) -> None:
        r"""Record a ``\restrict`` or ``\unrestrict``."""
        if name == r"\restrict":
            self._key = key.encode()
        elif name == r"\unrestrict":
            if self._key is None:
                self._found.append(rf"line {line} has \unrestrict without \restrict before it: a tool changed the file")
            elif self._key != key.encode():
                self._found.append(
                    rf"line {line} has \unrestrict with another key than \restrict: a tool changed the file"
                )
            self._key = None

    def cautions(self) -> list[str]:
        """Sentences without a full stop; only valid for a complete text."""
        found = list(self._found)
        if self._key is not None or self._unclosed:
            found.append(
                "the file is truncated after the end of the dump: the dump is complete, its last lines are not; "
                "compare the size of the file with that of the original"
            )
        if self._within:
            found.append(
                rf"a tool commented \restrict out (line {self._commented}), and line {self._within} within a command "
                r'begins with "-- \restrict" or "-- \unrestrict" too: the same tool may have changed that value'
            )
        elif self._commented:
            found.append(
                rf"a tool commented \restrict out (line {self._commented}): the file is not as pg_dump wrote it"
            )
        return found
