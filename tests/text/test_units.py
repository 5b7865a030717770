"""Amounts as people write and read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from lastgood.text import units


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1023, "1,023 bytes"),
        (1024, "1.0 kB"),
        (812 << 20, "812 MB"),
        (int(1.4 * (1 << 30)), "1.4 GB"),
        (3 << 50, "3,072 TB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0034, "3 ms"),
        (0.9999, "1.0 s"),
        (4.25, "4.2 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (4320, "1 h 12 min"),
        (3 * 86400, "3 days"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


def test_counts_and_rates() -> None:
    assert units.counted(1, "table") == "1 table"
    assert units.counted(1200, "table") == "1,200 tables"
    assert units.counted(2, "entry", "entries") == "2 entries"
    assert [units.signed(n) for n in (-1234, 0, 7)] == ["−1,234", "0", "+7"]
    assert units.rate(84 << 20, 1, "bytes") == "84 MB/s"
    assert units.rate(24000, 2, "rows") == "12,000 rows/s"
    assert units.rate(0, 2, "rows") == ""


def test_moments_are_in_utc() -> None:
    when = datetime(2025, 11, 4, 15, 30, tzinfo=timezone(timedelta(hours=1)))
    assert units.moment(when) == "2025-11-04 14:30:00 UTC"
    assert units.moment(datetime(2025, 11, 4, 14, 30)) == "2025-11-04 14:30:00 UTC"


def test_distances() -> None:
    now = datetime(2025, 11, 4, 12, tzinfo=UTC)
    assert units.ago(now - timedelta(hours=9), now) == "9 hours ago"
    assert units.ago(now - timedelta(seconds=1), now) == "1 second ago"
    assert units.ago(now - timedelta(minutes=90), now) == "90 minutes ago"
    assert units.ago(now + timedelta(days=3), now) == "in 3 days"
    assert units.ago(now, now) == "just now"
    # The clock of another machine.
    assert units.ago(now + timedelta(minutes=4), now) == "just now"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"),
        (8.4, "about 8 s"),
        (14.2, "about 14 s"),
        (59.4, "about 59 s"),
        (62.0, "about 1 min"),
        (127.0, "about 2 min 5 s"),
        (640.0, "about 11 min"),
        (4321.0, "about 1 h 12 min"),
    ],
)
def test_a_guess_has_no_tenths(seconds: float, text: str) -> None:
    assert units.roughly(seconds) == text


def test_a_range_has_no_tenths_and_no_equal_ends() -> None:
    assert units.between(8, 64) == "between 8 s and 1 min 5 s"
    assert units.between(0.01, 0.4) == "about 1 s"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("65536", 65536),
        ("1 byte", 1),
        ("12bytes", 12),
        ("8kB", 8192),
        ("8 KB", 8192),
        ("8K", 8192),
        ("500MB", 500 << 20),
        (" 1.5G ", 3 << 29),
        ("2gib", 2 << 30),
        ("1TB", 1 << 40),
        ("7B", 7),
    ],
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert units.read_size(text) == count


@pytest.mark.parametrize("text", ["", "MB", "-1GB", "1,5GB", "1e9", "2 GBs", "1PB", "١MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        units.read_size(text)


def test_sizes_are_written_as_they_are_read() -> None:
    for text in ("12 bytes", "8.0 kB", "500 MB", "1.5 GB", "3.0 TB"):
        assert units.size(units.read_size(text)) == text
    assert [units.size(n) for n in ((1 << 30) - 1, 1023 << 20, 1023, 1 << 50)] == [
        "1.0 GB",
        "1,023 MB",
        "1,023 bytes",
        "1,024 TB",
    ]


def test_a_list_counts_what_it_leaves_out() -> None:
    assert [units.listed("abcd", most) for most in (5, 4, 2)] == ["a, b, c, d", "a, b, c, d", "a, b and 2 more"]
    assert units.listed((str(each) for each in range(1200)), 1, "; ") == "0 and 1,199 more"
