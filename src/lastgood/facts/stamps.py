"""The newest of many time stamps in a dump's rows: fast if all have the same offset."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lastgood.facts import moments

_OFFSET = re.compile(rb"[+-]\d\d(?::\d\d){0,2}\Z")


def newest(values: Sequence[bytes]) -> bytes | None:
    r"""The greatest finite time stamp: ``\N`` and ``infinity`` sort after all digits, ``-infinity`` before them."""
    best = max(values, default=b"")
    if best > b":":
        values = [value for value in values if value < b":"]
        best = max(values, default=b"")
    if best.endswith(b"BC"):
        values = [value for value in values if value[:1].isdigit()]
        common_era = [value for value in values if not value.endswith(b"BC")]
        best = max(common_era) if common_era else min(values)
    return best if best[:1].isdigit() else None


def only_offset(values: Sequence[bytes]) -> bytes | None:
    """The offset that all values share, as in most dumps; empty if none has an offset, None if they differ."""
    for width in (3, 6):
        endings = {ending for ending in {value[-width:] for value in values} if ending[-2:].isdigit()}
        if not endings:
            return b""
        if len(endings) == 1 and (ending := endings.pop())[:1] in (b"+", b"-"):
            return ending
    return None


def grouped(values: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    """Group values by offset; those without one (infinite ones, NULL) under the empty text."""
    groups: dict[bytes, list[bytes]] = {}
    for value in values:
        found = _OFFSET.search(value)
        groups.setdefault(found[0] if found else b"", []).append(value)
    return groups


def latest(values: Sequence[bytes]) -> bytes:
    """The latest of time stamps with several offsets, all in ASCII."""
    return (
        moments.latest(value.decode("ascii", "replace") for value in values).encode() if len(values) > 1 else values[0]
    )
