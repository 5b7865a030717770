"""Amounts as people write and read them: bytes, durations, counts, rates, moments.

Bytes are counted in powers of 1024, and the units of time are PostgreSQL's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime

DURATION_PATTERN = r"^\s*\d+(\.\d+)?\s*(ms|s|min|h|d)?\s*$"
# Clocks differ: a moment at most this many seconds in the future counts as now.
CLOCKS_DIFFER = 300.0

_SIZES = ("bytes", "kB", "MB", "GB", "TB")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(bytes?)|([kmgt])?(?:i?b)?)", re.IGNORECASE | re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?", re.ASCII)
_SPANS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def read_size(text: str) -> int:
    """``500MB``, ``2 GB``, ``1.5G``, ``65536``: a number of bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a size")
    power = "kmgt".index(match[3].lower()) + 1 if match[3] else 0
    return int(float(match[1]) * 1024**power)


def read_duration(text: str) -> float:
    """``30``, ``30s``, ``1.5 min``, ``24h``: a number of seconds; seconds without a unit. Raises ValueError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("write a duration like 30s, 5min or 24h")
    return float(match[1]) * _SECONDS[match[2] or "s"]


def size(count: int | float) -> str:
    """A size in the units of ``pg_size_pretty``, with one decimal for small numbers: ``812 MB``, ``1.4 GB``."""
    value = float(count)
    for unit in _SIZES[:-1]:
        if abs(value) < (1024 if unit == "bytes" else 1023.5):  # otherwise it would be shown as 1,024
            return _short(value, unit)
        value /= 1024
    return _short(value, _SIZES[-1])


def _short(value: float, unit: str) -> str:
    if unit == "bytes" or abs(value) >= 9.95:
        return f"{value:,.0f} {unit}"
    return f"{value:.1f} {unit}"


def number(count: int) -> str:
    """``1,234,567``."""
    return f"{count:,}"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 table``, ``1,200 tables``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(texts: Iterable[str], most: int, separator: str = ", ") -> str:
    """Join the first texts, and count the others: ``a, b and 3 more``."""
    first = list(texts)
    rest = len(first) - most
    return separator.join(first[:most]) + (f" and {number(rest)} more" if rest > 0 else "")


def signed(count: int) -> str:
    """``+12``, ``−3`` (with a real minus sign), ``0``."""
    if count == 0:
        return "0"
    return f"+{count:,}" if count > 0 else f"−{-count:,}"


def rate(count: int, seconds: float, unit: str) -> str:
    """``84 MB/s`` for bytes, ``12,000 rows/s`` for others; empty when it is not known yet."""
    if seconds <= 0 or count <= 0:
        return ""
    if unit == "bytes":
        return f"{size(count / seconds)}/s"
    return f"{count / seconds:,.0f} {unit}/s"


def duration(seconds: float) -> str:
    """``3 ms``, ``4.2 s``, ``2 min 5 s``, ``1 h 12 min``; as exact as people need."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    return f"{minutes // (24 * 60)} days"


def roughly(seconds: float) -> str:
    """An estimate, without tenths: ``about 8 s``, ``about 2 min 5 s``, ``about 1 h 12 min``."""
    whole = max(1, round(seconds))
    if whole >= 600:
        whole = 60 * round(whole / 60)
    elif whole >= 60:
        whole = 5 * round(whole / 5)
    return f"about {duration(whole)}" if whole >= 10 else f"about {whole} s"


def between(low: float, high: float) -> str:
    """A range of durations: ``between 8 s and 1 min 5 s``; ``about 1 s`` if both ends are as good as equal."""
    ends = [roughly(each) for each in (low, high)]
    if ends[0] == ends[1]:
        return ends[0]
    return "between " + " and ".join(each.removeprefix("about ") for each in ends)


def span(seconds: float) -> str:
    """A duration for a sentence, ``9 hours``, ``2 days``, ``40 seconds``: rounded down, in the largest unit that gives
    at least two."""
    whole = int(abs(seconds))
    length, unit = next(((length, unit) for length, unit in _SPANS if whole >= 2 * length), _SPANS[-1])
    return counted(whole // length, unit)


def moment(when: datetime) -> str:
    """A moment in UTC, to the second: ``2025-11-04 14:30:00 UTC``. One without a zone counts as UTC."""
    return f"{_aware(when).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def day(when: datetime) -> str:
    """The date, in UTC: ``2025-11-04``."""
    return f"{_aware(when).astimezone(UTC):%Y-%m-%d}"


def ago(when: datetime, now: datetime | None = None) -> str:
    """``9 hours ago``, ``just now``, ``in 2 days``: the distance from now, in one unit."""
    seconds = ((now or datetime.now(UTC)) - _aware(when)).total_seconds()
    if -CLOCKS_DIFFER <= seconds < 1:
        return "just now"
    return f"in {span(seconds)}" if seconds < 0 else f"{span(seconds)} ago"


def _aware(when: datetime) -> datetime:
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
