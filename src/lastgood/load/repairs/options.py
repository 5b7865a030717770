"""Internal options of columns, such as pg_attver of 15.20. An older pg_dump writes them nevertheless, and a server
without them refuses them."""

from __future__ import annotations

import re

from lastgood.dump.statements import Command, Kind

_OF_COLUMN = re.compile(rb"(ALTER .*\bALTER COLUMN .* SET \()(.*)(\))\s*\Z", re.DOTALL)
_INTERNAL = re.compile(rb"\bpg_[a-z0-9_]+=[^,]*(?:,\s*|\Z)")


def text(command: Command) -> bytes | None:
    """The text to send for a command: without internal options, None if it sets nothing else."""
    whole = command.statement.text
    if command.kind is not Kind.TABLE_PROPERTY or b"pg_" not in whole:
        return whole
    found = _OF_COLUMN.match(whole)
    if found is None:
        return whole
    left = re.sub(rb",\s*\Z", b"", _INTERNAL.sub(b"", found[2]))
    return found[1] + left + found[3] if left.strip() else None
