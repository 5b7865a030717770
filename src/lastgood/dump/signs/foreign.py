"""Text that pg_dump did not write: its program, and the first command that reveals it."""

from __future__ import annotations

import re

from lastgood.dump.files.makers import maker_of_comment, maker_of_definition
from lastgood.dump.lexer.tokens import CopyStart, Statement
from lastgood.dump.signs.ending import INSPECT
from lastgood.dump.statements import Command
from lastgood.errors import Foreign

# Commands that tools append after the footer of their dumps.
_TAILS = (
    (re.compile(rb'INSERT INTO "schema_migrations"'), ", as in Rails' structure.sql"),
    (re.compile(rb"INSERT INTO (?:\w+\.)?schema_migrations"), ", as in dbmate's schema.sql"),
)


class ForeignCommands:
    """The foreign commands of a text. ``maker`` is the program that wrote it, empty for pg_dump and for an unknown one.
    ``behind``: the first command after the end of the dump.
    """

    def __init__(self) -> None:
        self.maker = ""
        self.behind: Statement | CopyStart | None = None
        self._tail = ""
        self._first: Foreign | None = None

    def comment(self, text: bytes) -> None:
        """Process a comment before pg_dump's header."""
        self.maker = self.maker or maker_of_comment(text)

    def not_sql(self, text: bytes) -> None:
        """Process a command without pg_dump's header that PostgreSQL's parser refuses."""
        if text[:6].upper() == b"CREATE":
            self.maker = self.maker or maker_of_definition(text)

    def command(self, command: Command, reason: str) -> None:
        """Process a harmless command that pg_dump never writes."""
        line = command.statement.line
        if self._first is None:
            self._first = Foreign(
                f"cannot use the dump: line {line} {reason}", hint=INSPECT, line=line, offset=command.statement.offset
            )

    def behind_the_end(self, token: Statement | CopyStart) -> None:
        """Process a command after the end of the dump."""
        self.behind = self.behind or token
        self._tail = self._tail or next((tool for pattern, tool in _TAILS if pattern.match(token.text)), "")
        self._first = Foreign(
            f"cannot use the dump: commands were added after its end, from line {self.behind.line} on{self._tail}",
            hint=INSPECT,
            line=self.behind.line,
            offset=self.behind.offset,
        )

    @property
    def error(self) -> Foreign | None:
        """The reason why the text is no restore point; None if pg_dump wrote all of the text read so far."""
        if self.maker:
            return Foreign(f"cannot use the dump: it is an export of {self.maker}, not of pg_dump", hint=INSPECT)
        return self._first
