"""Numbers as people read them: sizes, durations, rates, counts, moments."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lastgood import sizes
from lastgood.spans import duration as duration
from lastgood.spans import roughly as roughly
from lastgood.spans import span


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
    text = span(distance.total_seconds())
    if abs(distance) < timedelta(seconds=1):
        return "now"
    return f"in {text}" if ahead else f"{text} ago"
