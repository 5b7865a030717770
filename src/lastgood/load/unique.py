"""A primary key or unique constraint in two steps: its index, during which other sessions build indexes and read rows,
and then the constraint, which adopts the index instantly. A single step would lock out all other sessions."""

from __future__ import annotations

import re
from dataclasses import replace

from lastgood.dump.statements import Command

_NAME = rb'(?:"(?:[^"]|"")+"|[\w$]+)'
# Exactly the form that pg_dump writes in the ordinary case. Others (DEFERRABLE, WITH, WITHOUT OVERLAPS) stay whole.
_PLAIN = re.compile(
    rb"ALTER\s+TABLE\s+ONLY\s+(?P<table>%(name)s(?:\.%(name)s)?)\s+ADD\s+CONSTRAINT\s+(?P<constraint>%(name)s)\s+"
    rb"(?P<kind>PRIMARY\s+KEY|UNIQUE)\s*(?P<columns>\(\s*%(name)s(?:\s*,\s*%(name)s)*\s*\))\s*"
    rb"(?P<include>INCLUDE\s*\(\s*%(name)s(?:\s*,\s*%(name)s)*\s*\))?\s*;?\s*" % {b"name": _NAME}
)


def in_two(command: Command) -> tuple[Command, Command] | None:
    """The command that builds the index and the one that adds the constraint with it; None for a command that can't be
    split. The result is the same as that of the one command: the index has the constraint's name."""
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
    """The command with another text; its place in the dump and its object stay the same."""
    return replace(command, statement=replace(command.statement, text=text))
