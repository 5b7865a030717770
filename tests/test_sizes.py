"""Amounts of bytes as people write and read them."""

from __future__ import annotations

import pytest

from lastgood import sizes


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
    assert sizes.parse(text) == count


@pytest.mark.parametrize("text", ["", "MB", "-1GB", "1,5GB", "1e9", "2 GBs", "1PB", "١MB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        sizes.parse(text)


def test_sizes_are_said_as_they_are_read() -> None:
    for text in ("12 bytes", "8.0 kB", "500 MB", "1.5 GB", "3.0 TB"):
        assert sizes.said(sizes.parse(text)) == text
    assert [sizes.said(n) for n in ((1 << 30) - 1, 1023 << 20, 1023, 1 << 50)] == [
        "1.0 GB",
        "1,023 MB",
        "1,023 bytes",
        "1,024 TB",
    ]
