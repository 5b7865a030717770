"""Numbers as people read them: sizes, durations, rates, counts, moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lastgood import sizes


def size(count: int | float) -> str:
    """Bytes in powers of 1024, as ``pg_size_pretty`` means them: ``812 MB``, ``1.4 GB``."""
    return sizes.said(count)


def number(count: int) -> str:
    """``1,234,567``."""
    return f"{count:,}"


def counted(count: int, one: str, many: str = "") -> str:
    """``1 table``, ``12 tables``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def signed(count: int) -> str:
    """``+12``, ``−3`` (with a real minus sign), ``0``."""
    if count == 0:
        return "0"
    return f"+{count:,}" if count > 0 else f"−{-count:,}"


def duration(seconds: float) -> str:
    """``3 ms``, ``4.2 s``, ``2 min 5 s``, ``1 h 12 min``; never less exact than a person needs."""
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
    """A guess, which has no tenths: ``about 8 s``, ``about 2 min 5 s``, ``about 1 h 12 min``."""
    whole = max(1, round(seconds))
    if whole >= 600:
        whole = 60 * round(whole / 60)
    elif whole >= 60:
        whole = 5 * round(whole / 5)
    return f"about {duration(whole)}" if whole >= 10 else f"about {whole} s"


def rate(count: int, seconds: float, unit: str) -> str:
    """``84 MB/s`` for bytes, ``12,000 rows/s`` for others; empty when nothing can be said yet."""
    if seconds <= 0 or count <= 0:
        return ""
    if unit == "bytes":
        return f"{size(count / seconds)}/s"
    return f"{count / seconds:,.0f} {unit}/s"


def moment(when: datetime) -> str:
    """In UTC, to the second: ``2025-11-04 14:30:00 UTC``. A moment without a zone is taken as UTC."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return aware.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ago(when: datetime, now: datetime | None = None) -> str:
    """``9 hours ago``, ``in 5 minutes``: the distance from now, in one unit."""
    aware = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    distance = (now or datetime.now(UTC)) - aware
    ahead = distance < timedelta(0)
    seconds = abs(distance.total_seconds())
    for length, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= 2 * length or (unit == "second" and seconds >= 1):
            text = counted(int(seconds // length), unit)
            return f"in {text}" if ahead else f"{text} ago"
    return "now"
