"""Lengths of time as people write them, in PostgreSQL's units: ``ms``, ``s``, ``min``, ``h``, ``d``."""

from __future__ import annotations

import re

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
PATTERN = r"^\s*\d+(\.\d+)?\s*(ms|s|min|h|d)?\s*$"
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?", re.ASCII)


def parse(text: str) -> float:
    """``30``, ``30s``, ``1.5 min``, ``24h``: a number of seconds; seconds without a unit. Raises ValueError."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError("write a length of time like 30s, 5min or 24h")
    return float(match[1]) * _SECONDS[match[2] or "s"]
