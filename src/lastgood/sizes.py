"""Amounts of bytes as people write and read them, in powers of 1024 as PostgreSQL means them."""

from __future__ import annotations

import re

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(bytes?)|([kmgt])?(?:i?b)?)", re.IGNORECASE | re.ASCII)


def parse(text: str) -> int:
    """``500MB``, ``2 GB``, ``1.5G``, ``65536``: a number of bytes. Raises ValueError."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size")
    power = "kmgt".index(match[3].lower()) + 1 if match[3] else 0
    return int(float(match[1]) * 1024**power)


def said(count: int | float) -> str:
    """As ``pg_size_pretty`` means them, with one more digit where it tells something: ``812 MB``, ``1.4 GB``."""
    value = float(count)
    for unit in _UNITS[:-1]:
        if abs(value) < (1024 if unit == "bytes" else 1023.5):  # which would be said as 1,024
            return _short(value, unit)
        value /= 1024
    return _short(value, _UNITS[-1])


def _short(value: float, unit: str) -> str:
    if unit == "bytes" or abs(value) >= 9.95:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}"
