r"""The state of one text while it is read: transactions, psql's conditions, ``\restrict``, and foreign text in it.

A transaction of the file is not kept: each command is committed by itself, except calls that write large objects. Signs
that the file was truncated or changed by a tool become cautions, text that is certain not to be part of the dump
becomes a note, and any other foreign text is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from lastgood.dump.lexer import patterns
from lastgood.dump.lexer.tokens import Comment, CopyStart, MetaCommand, Noise, Statement
from lastgood.dump.statements import Command, LargeObjectCall, PsqlCommand
from lastgood.errors import Corrupt

SAME_FILE = "Make the dump again without 2>&1: stderr went into the same file."
_BOM = b"\xef\xbb\xbf"
_MESSAGE_WITHIN = re.compile(rb"(?:^|\n|\S)(?=" + patterns.MESSAGE.pattern + rb")")
_TRUE = frozenset({"true", "on", "yes", "1", "t", "y"})
_VARIABLE = re.compile(r":\{\?(\w+)\}|:'?\"?(\w+)'?\"?")
_ENDS = re.compile(rb"(?i)(?:commit|end)\b")
_COMMENTED = re.compile(rb"--\s*\\(?:un)?restrict\b")
_WITHIN = re.compile(rb"\n--\s*\\(?:un)?restrict\b")


class RestrictState:
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


class TransactionState:
    """``open``: whether a transaction of the file is open at the present command."""

    def __init__(self) -> None:
        self.open = False
        self._begun: Command | None = None
        self._kept = False

    def note(self, command: Command) -> Iterator[Command]:
        """Process a BEGIN or COMMIT; yield it if it must run now."""
        self.open = _ENDS.match(command.statement.text) is None
        self._begun = command if self.open else None
        if self._kept and not self.open:
            self._kept = False
            yield command

    def before(self, command: Command) -> Iterator[Command]:
        """The BEGIN that ``command`` needs before it, if any."""
        begun, self._begun = self._begun, None
        if begun is not None and isinstance(command.detail, LargeObjectCall):
            self._kept = True
            yield begun


class PsqlConditions:
    r"""Track psql's ``\if`` through the psql commands of a text. ``active``: psql would run the next command."""

    def __init__(self) -> None:
        self._variables: dict[str, str] = {}
        # For each open \if: whether its current branch is taken, and whether one was taken before.
        self._open: list[tuple[bool, bool]] = []

    @property
    def active(self) -> bool:
        return all(taken for taken, _ in self._open)

    def note(self, command: PsqlCommand) -> None:
        """Process the next psql command."""
        name, argument = command.name[1:], command.argument
        if name == "if":
            taken = self._holds(argument)
            self._open.append((taken, taken))
        elif self._open and name in ("elif", "else"):
            _, before = self._open.pop()
            taken = not before and (name == "else" or self._holds(argument))
            self._open.append((taken, before or taken))
        elif self._open and name == "endif":
            self._open.pop()
        elif name == "set" and self.active:
            variable, _, value = argument.partition(" ")
            self._variables[variable] = value.strip().strip("'")
        elif name == "unset" and self.active:
            self._variables.pop(argument, None)

    def _holds(self, expression: str) -> bool:
        found = _VARIABLE.fullmatch(expression.strip())
        if found is None:
            return expression.strip().strip("'").lower() in _TRUE
        asked, variable = found.groups()
        return asked in self._variables if asked else self._variables.get(variable, "").lower() in _TRUE


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
