"""A primary key or unique constraint in two steps: its index, beside which others are built and rows are read, and then
the constraint, which takes the index over in an instant. In one step nobody else could do anything to the table."""

from __future__ import annotations

import re
from dataclasses import replace

from lastgood.dump.statements import Command

_NAME = rb'(?:"(?:[^"]|"")+"|[\w$]+)'
# Just what pg_dump writes for the ordinary case. Whatever says more (DEFERRABLE, WITH, WITHOUT OVERLAPS) stays whole.
_PLAIN = re.compile(
    rb"ALTER\s+TABLE\s+ONLY\s+(?P<table>%(name)s(?:\.%(name)s)?)\s+ADD\s+CONSTRAINT\s+(?P<constraint>%(name)s)\s+"
    rb"(?P<kind>PRIMARY\s+KEY|UNIQUE)\s*(?P<columns>\(\s*%(name)s(?:\s*,\s*%(name)s)*\s*\))\s*"
    rb"(?P<include>INCLUDE\s*\(\s*%(name)s(?:\s*,\s*%(name)s)*\s*\))?\s*;?\s*" % {b"name": _NAME}
)


def in_two(command: Command) -> tuple[Command, Command] | None:
    """The command that builds the index and the one that makes it the constraint's; None for what has to stay whole.
    What results is the same as of the one command: the index has the constraint's name."""
    found = _PLAIN.fullmatch(command.statement.text)
    if found is None:
        return None
    index = b"CREATE UNIQUE INDEX %(constraint)s ON %(table)s %(columns)s" % _named(found)
    if found["include"]:
        index += b" " + found["include"]
    constraint = (
        b"ALTER TABLE ONLY %(table)s ADD CONSTRAINT %(constraint)s %(kind)s USING INDEX %(constraint)s" % _named(found)
    )
    return _with(command, index), _with(command, constraint)


def _named(found: re.Match[bytes]) -> dict[bytes, bytes]:
    return {name.encode(): text for name, text in found.groupdict().items() if text is not None}


def _with(command: Command, text: bytes) -> Command:
    """The same place in the dump, the same object, another text."""
    return replace(command, statement=replace(command.statement, text=text))
