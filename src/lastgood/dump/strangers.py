"""What in one text pg_dump did not write: who made it, and the first command that gives it away."""

from __future__ import annotations

import re

from lastgood.dump.ending import LOOK
from lastgood.dump.makers import maker_of_comment, maker_of_definition
from lastgood.dump.statements import Command
from lastgood.dump.tokens import CopyStart, Statement
from lastgood.errors import Foreign

# What tools write behind the footer of a dump that is theirs otherwise.
_TAILS = (
    (re.compile(rb'INSERT INTO "schema_migrations"'), ", as in Rails' structure.sql"),
    (re.compile(rb"INSERT INTO (?:\w+\.)?schema_migrations"), ", as in dbmate's schema.sql"),
)


class Strangers:
    """``maker`` is the program that wrote the text, empty where that is pg_dump or not known. ``behind``: the first
    command behind the end of the dump.
    """

    def __init__(self) -> None:
        self.maker = ""
        self.behind: Statement | CopyStart | None = None
        self._tail = ""
        self._first: Foreign | None = None

    def comment(self, text: bytes) -> None:
        """Take a comment of a text in which pg_dump's header was not read yet."""
        self.maker = self.maker or maker_of_comment(text)

    def not_sql(self, text: bytes) -> None:
        """Take a command of such a text that PostgreSQL's parser refuses."""
        if text[:6].upper() == b"CREATE":
            self.maker = self.maker or maker_of_definition(text)

    def command(self, command: Command, reason: str) -> None:
        """Take a harmless command that no pg_dump writes."""
        line = command.statement.line
        if self._first is None:
            self._first = Foreign(
                f"cannot use the dump: line {line} {reason}", hint=LOOK, line=line, offset=command.statement.offset
            )

    def behind_the_end(self, token: Statement | CopyStart) -> None:
        """Take a command behind the end of the dump."""
        self.behind = self.behind or token
        self._tail = self._tail or next((tool for pattern, tool in _TAILS if pattern.match(token.text)), "")
        self._first = Foreign(
            f"cannot use the dump: commands were added behind its end, from line {self.behind.line} on{self._tail}",
            hint=LOOK,
            line=self.behind.line,
            offset=self.behind.offset,
        )

    @property
    def error(self) -> Foreign | None:
        """Why the text is no restore point; None where pg_dump wrote all of it, as far as was read."""
        if self.maker:
            return Foreign(f"cannot use the dump: it is an export of {self.maker}, not of pg_dump", hint=LOOK)
        return self._first
