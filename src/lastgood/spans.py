"""Spans of time in words: exact, roughly, or as a sentence has them."""

from __future__ import annotations

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def span(seconds: float) -> str:
    """``9 hours``, ``2 days``, ``40 seconds``: in one unit, rounded down, of which there are at least two."""
    whole = int(abs(seconds))
    length, unit = next(((length, unit) for length, unit in _UNITS if whole >= 2 * length), _UNITS[-1])
    count = whole // length
    return f"{count} {unit}" + ("" if count == 1 else "s")


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
