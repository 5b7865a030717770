"""Tables of contents that pg_dump did not write so; those that it did write are read in test_members.py."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import pytest

from lastgood.dump.archive.toc import TocEntry, entries_with_data
from lastgood.errors import BadPoint, Corrupt, Incomplete

ANOTHER = "Choose another restore point: lastgood points"
COPY = b"COPY public.t (id) FROM stdin;\n"
ROWS = TocEntry(7, b"TABLE DATA", b"t", b"public", COPY, None, "7.dat")


def integer(value: int) -> bytes:
    return bytes([value < 0]) + struct.pack("<I", abs(value))


def text(value: bytes | None) -> bytes:
    return integer(-1) if value is None else integer(len(value)) + value


def header(minor: int, form: int, count: int, sizes: bytes = b"\4\x08") -> bytes:
    compression = b"\0" if minor > 14 else integer(0)
    made = integer(1) * 7 + text(b"db") + text(b"18.6") + text(None)
    return b"PGDMP\1" + bytes([minor, 0]) + sizes + bytes([form]) + compression + made + integer(count)


def entry(minor: int, of: TocEntry, where: bytes, has_data: int = 1, section: int = 3) -> bytes:
    return b"".join(
        [
            integer(of.dump_id) + integer(has_data) + text(b"1259") + text(b"16384") + text(of.tag) + text(of.desc),
            integer(section) + text(b"") + text(None) + text(of.copy) + text(of.namespace) + text(b"") + text(b"heap"),
            integer(ord("r")) if minor > 15 else b"",
            text(b"owner") + text(b"false") + text(b"12") + text(b"4") + text(None) + where,
        ]
    )


def read(data: bytes) -> list[TocEntry]:
    return list(entries_with_data(io.BytesIO(data), "dump", len(data)))


@pytest.mark.parametrize("minor", [14, 15, 16])
def test_entries_with_data_are_read(minor: int) -> None:
    other = replace(ROWS, dump_id=3, desc=b"TABLE", copy=b"")
    large = TocEntry(8, b"BLOBS", b"BLOBS", b"", b"", None, "blobs.toc")
    entries = [entry(minor, other, text(b""), 0, 2), entry(minor, ROWS, text(b"7.dat"))]
    entries.append(entry(minor, large, text(b"blobs.toc")))
    assert read(header(minor, 3, 3) + b"".join(entries)) == [ROWS, large]
    assert ROWS.relation == "public.t"


@pytest.mark.parametrize("size", [4, 8])
def test_offsets_are_read(size: int) -> None:
    head = header(16, 1, 3, bytes([4, size]))
    places = [b"\2" + (70_000).to_bytes(size, "little"), b"\1" + bytes(size), b"\3" + bytes(size)]
    entries = [entry(16, ROWS, place, has_data=place[0] != 3) for place in places]
    found = [replace(ROWS, offset=70_000, file=""), replace(ROWS, offset=None, file="")]
    assert read(head + b"".join(entries) + b"the data") == found


def test_a_version_that_is_not_known_is_not_read() -> None:
    with pytest.raises(BadPoint) as caught:
        read(header(17, 3, 0))
    assert caught.value.message == 'cannot read "dump": archive version 1.17 is not supported'


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"PGDUMP" + bytes(20), "byte 5: it does not begin with PGDMP"),
        (header(16, 3, 0, b"\x08\x08"), "byte 11: its header is not one that pg_dump writes"),
        (header(16, 3, 0, b"\4\7"), "byte 11: its header is not one that pg_dump writes"),
        (header(16, 4, 0), "byte 11: its header is not one that pg_dump writes"),
        (header(16, 3, 1) + integer(0) + bytes(100), "byte 78: an entry has the number 0"),
        (header(16, 3, 1) + integer(-4) + bytes(100), "byte 78: an entry has the number -4"),
        (header(16, 3, 1) + entry(16, ROWS, text(b"7.dat"), 2), "byte 128: entry 7 is not one that pg_dump writes"),
        (
            header(16, 3, 1) + entry(16, ROWS, text(b"7.dat"), section=5),
            "byte 128: entry 7 is not one that pg_dump writes",
        ),
        (header(16, 3, 1) + entry(16, ROWS, text(b"../7.dat")), "byte 255: entry 7 does not have its data in 7.dat"),
        (header(16, 3, 1) + entry(16, ROWS, text(b"8.dat")), "byte 252: entry 7 does not have its data in 7.dat"),
        (header(16, 3, 1) + entry(16, ROWS, text(b"")), "byte 247: entry 7 is inconsistent about whether it has data"),
        (
            header(16, 3, 1) + entry(16, ROWS, text(b"7.dat"), 0),
            "byte 252: entry 7 is inconsistent about whether it has data",
        ),
        (
            header(16, 1, 1) + entry(16, ROWS, b"\4" + bytes(8)),
            "byte 251: an entry has an unknown state of its data position",
        ),
        (header(16, 3, 0) + b"x", "byte 73: other data follows its last entry"),
        (
            header(16, 3, 1) + entry(16, replace(ROWS, copy=bytes(1_048_577)), text(b"7.dat")),
            "byte 143: it has a name or COPY command of 1048577 bytes",
        ),
    ],
)
def test_damage_is_named(data: bytes, why: str) -> None:
    with pytest.raises(Corrupt) as caught:
        read(data)
    assert caught.value.message == f'cannot read "dump": its table of contents is damaged before {why}'
    assert caught.value.hint == ANOTHER


def test_a_long_text_that_is_not_needed_is_skipped() -> None:
    whole = header(16, 3, 1) + entry(16, ROWS, text(b"7.dat")).replace(text(b"owner"), text(bytes(5_000_000)))
    assert read(whole) == [ROWS]
    with pytest.raises(Incomplete):
        read(whole[:-60])


def test_a_length_beyond_the_end_of_the_file_is_refused() -> None:
    whole = header(16, 3, 1) + entry(16, ROWS, text(b"7.dat"))
    huge = whole.replace(text(b"heap"), integer(4_294_967_295) + b"heap")
    for data in (huge, *(whole[:cut] for cut in range(5, len(whole)))):
        with pytest.raises(Incomplete) as caught:
            read(data)
        assert caught.value.message == 'cannot read "dump": it ends within its table of contents'
