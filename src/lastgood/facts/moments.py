"""Time stamps and dates as COPY writes them: their order, whether two are the same instant, and the newest of many."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_TEXT = re.compile(
    r"(?P<year>\d{4,})-(?P<month>\d\d)-(?P<day>\d\d)"
    r"(?:[ T](?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,6})0*)?)?"
    r"(?P<offset>Z|[+-]\d\d(?::?\d\d(?::?\d\d)?)?)?)?(?P<bc> BC)?\Z"
)
_OFFSET = re.compile(rb"[+-]\d\d(?::\d\d){0,2}\Z")
_SECOND = 1_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """``microseconds`` since 1970: in UTC if the text has an offset (``zoned``), otherwise without a time zone."""

    microseconds: int
    zoned: bool


def moment(text: str) -> Moment | None:
    """The value of a time stamp or date in ISO style, of any year and offset; None for any other text."""
    found = _TEXT.match(text)
    if found is None:
        return None
    year = int(found["year"])
    days = _days(1 - year if found["bc"] else year, int(found["month"]), int(found["day"]))
    seconds = int(found["hour"] or 0) * 3600 + int(found["minute"] or 0) * 60 + int(found["second"] or 0)
    offset = found["offset"]
    if offset is not None and offset != "Z":
        parts = [int(part) for part in re.findall(r"\d\d", offset)]
        east = sum(part * unit for part, unit in zip(parts, (3600, 60, 1), strict=False))
        seconds += east if offset[0] == "-" else -east
    microseconds = int((found["fraction"] or "").ljust(6, "0"))
    return Moment((days * 86400 + seconds) * _SECOND + microseconds, offset is not None)


def same(one: str, other: str) -> bool | None:
    """Whether two texts are the same instant, or the same time without a zone. None if only one has an offset, or if
    one is not a time stamp."""
    if one == other:
        return True
    first, second = moment(one), moment(other)
    if first is None or second is None or first.zoned is not second.zoned:
        return None
    return first == second


def latest(texts: Iterable[str]) -> str:
    """The latest time, regardless of offsets. ``texts`` must not be empty."""
    return max(texts, key=_order)


def _order(text: str) -> tuple[int, str]:
    found = moment(text)
    return (found.microseconds if found is not None else -(1 << 80), text)


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 in the proleptic Gregorian calendar, including years before 1 and after 9999."""
    # The year begins in March, so that the leap day is its last one; 400 years have 146097 days.
    year -= month < 3
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def newest(values: Sequence[bytes]) -> bytes | None:
    r"""The greatest finite one of time stamps with the same offset: ``\N`` and ``infinity`` sort after all digits,
    ``-infinity`` before them."""
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
    # A plus sign begins an offset, and nothing else: to count them takes half as long as to look at each value.
    if (found := _OFFSET.search(values[0])) and found[0][:1] == b"+":
        together = b"\n".join([*values, b""])
        if together.count(found[0] + b"\n") == together.count(b"+") == len(values):
            return found[0]
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
        offset = _OFFSET.search(value)
        groups.setdefault(offset[0] if offset else b"", []).append(value)
    return groups


def latest_text(values: Sequence[bytes]) -> bytes:
    """The latest of time stamps with several offsets, all in ASCII."""
    return latest(value.decode("ascii", "replace") for value in values).encode() if len(values) > 1 else values[0]
