"""Options of columns that a server keeps for itself: pg_attver of 15.20, say. A pg_dump older than that writes it all
the same, and a server that does not know it refuses it."""

from __future__ import annotations

import re

from lastgood.dump.statements import Command, Kind

_OF_COLUMN = re.compile(rb"(ALTER .*\bALTER COLUMN .* SET \()(.*)(\))\s*\Z", re.DOTALL)
_INTERNAL = re.compile(rb"\bpg_[a-z0-9_]+=[^,]*(?:,\s*|\Z)")


def text(command: Command) -> bytes | None:
    """What to send for a command: without options that a server keeps for itself, None where nothing else is in it."""
    whole = command.statement.text
    if command.kind is not Kind.TABLE_PROPERTY or b"pg_" not in whole:
        return whole
    found = _OF_COLUMN.match(whole)
    if found is None:
        return whole
    left = re.sub(rb",\s*\Z", b"", _INTERNAL.sub(b"", found[2]))
    return found[1] + left + found[3] if left.strip() else None
