"""Rows and commands that are too long to be held: digested in parts, refused where no server could take them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from lastgood.dump.entries import RowPart, Rows
from lastgood.dump.lexer import lexer, window
from lastgood.dump.reader import read
from lastgood.errors import Corrupt, Incomplete
from lastgood.facts.of_dump import facts_of_dump
from tests.support.real_dumps import Text

HEAD = (
    b"--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n"
    b"CREATE TABLE public.t (a text, at timestamp without time zone, b text);\n\n"
)
COPY = b"COPY public.t (a, at, b) FROM stdin;\n"
FOOT = b"\\.\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
STAMP = b"2026-01-02 03:04:05"
LONG_ROW = "größe ".encode() * 100 + b"\t" + STAMP + b"\t" + b"y" * 500 + b"\n"
SHORT_ROW = b"a\t2026-01-01 00:00:00\tb\n"


class Endless:
    """``count`` times the same bytes between two texts: no more than one of them is in memory."""

    def __init__(self, before: bytes, piece: bytes, count: int, behind: bytes) -> None:
        self._parts = before, piece, count, behind

    def chunks(self) -> Iterator[bytes]:
        before, piece, count, behind = self._parts
        yield before
        for _ in range(count):
            yield bytes(bytearray(piece))
        yield behind


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of more than 100 bytes are long, and portions small."""
    monkeypatch.setattr(lexer, "LONG", 100)
    monkeypatch.setattr(window, "PORTION", 64)


@pytest.mark.parametrize(
    "rows",
    [
        LONG_ROW,
        SHORT_ROW + LONG_ROW + SHORT_ROW,
        LONG_ROW * 3,
        SHORT_ROW * 50 + LONG_ROW,
        b"\\." + b"x" * 300 + b"\t\\N\t\\.\n" + SHORT_ROW,
    ],
)
@pytest.mark.parametrize("size", [1, 7, 64, 4096])
def test_a_row_in_parts_is_the_same_row(rows: bytes, size: int, request: pytest.FixtureRequest) -> None:
    text = HEAD + COPY + rows + FOOT
    whole, _ = facts_of_dump(Text(text))
    request.getfixturevalue("short_limits")
    parts, summary = facts_of_dump(Text(text, size))
    assert parts.tables == whole.tables
    section = next(summary.script.sections)
    assert text[section.begin : section.begin + section.size] == rows
    skimmed, _ = facts_of_dump(Text(text, size), skim=True)
    assert skimmed.tables[0].rows == rows.count(b"\n")


def test_it_comes_in_parts(short_limits: None) -> None:
    found = [each for each in read(Text(HEAD + COPY + LONG_ROW + FOOT, 64)) if isinstance(each, Rows | RowPart)]
    assert len(found) > 5 and all(isinstance(each, RowPart) and each.size < 300 for each in found)
    assert b"".join(each.data for each in found) == LONG_ROW
    assert [each.rows for each in found] == [0] * (len(found) - 1) + [1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            b"x" * 500 + b"\r" + b"y" * 500 + b"\t\\N\t\n",
            "cannot use the dump: line 10, a row of public.t, has a bare carriage return",
        ),
        (b"x" * 1000 + b"\n", "cannot use the dump: line 10, a row of public.t, has 1 value instead of 3"),
        (b"\tx" * 1000 + b"\n", "cannot use the dump: line 10, a row of public.t, has more than 3 values instead of 3"),
        (
            b"x" * 999 + b"\xff" + b"y" * 500 + b"\t\\N\t\n",
            "cannot use the dump: line 10 (byte 1000 of it) is not valid UTF8, in the rows of public.t",
        ),
    ],
)
def test_it_is_checked_as_others_are(row: bytes, message: str, short_limits: None) -> None:
    with pytest.raises(Corrupt) as refused:
        list(read(Text(HEAD + COPY + row + FOOT, 64)))
    assert refused.value.message.removesuffix(", in the rows of public.t") == message.removesuffix(
        ", in the rows of public.t"
    )


def test_a_row_that_no_server_takes_is_refused(monkeypatch: pytest.MonkeyPatch, short_limits: None) -> None:
    monkeypatch.setattr(lexer, "ROW_LIMIT", len(LONG_ROW) - 1)
    list(read(Text(HEAD + COPY + LONG_ROW + FOOT, 64)))
    monkeypatch.setattr(lexer, "ROW_LIMIT", len(LONG_ROW) - 2)
    for skim in (False, True):
        with pytest.raises(Corrupt) as refused:
            list(read(Text(HEAD + COPY + LONG_ROW + FOOT, 64), skim=skim))
        assert refused.value.message == (
            "cannot read the dump: line 10 has more than 1 GB, which no server accepts in a row, "
            "in the rows of public.t"
        )


def test_an_end_within_a_long_row(short_limits: None) -> None:
    with pytest.raises(Incomplete):
        list(read(Text(HEAD + COPY + b"x" * 5000, 64)))


def peak(source: Endless) -> int:
    """Bytes that reading a dump takes at most."""
    tracemalloc.start()
    try:
        facts_of_dump(source)
    finally:
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return found


def test_memory_does_not_grow_with_a_row() -> None:
    source = Endless(HEAD + COPY, b"x" * (1 << 20), 96, b"\t\\N\t\\N\n" + FOOT)
    assert peak(source) < 32 << 20


@pytest.mark.parametrize(
    ("before", "behind"),
    [
        (b"INSERT INTO public.t (a) VALUES ('", b"');\n"),
        (b"COMMENT ON TABLE public.t IS '", b"';\n"),
        (b"COMMENT ON TABLE public.t IS $$", b"$$;\n"),
        (b'CREATE TABLE public."', b'" (a integer);\n'),
        (b"-- ", b"\n"),
        (b"/* ", b"*/\n"),
        (b"", b";\n"),
        (b"\\restrict ", b"\n"),
        (b"pg_dump: ", b"\n"),
        (b"SELECT (", b");\n"),
    ],
)
def test_what_is_no_row_has_a_limit(before: bytes, behind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window.Window, "limit", 4 << 20)
    source = Endless(HEAD + before, b"x" * (1 << 18), 400, behind + FOOT)
    with pytest.raises(Corrupt) as refused:
        peak(source)
    assert refused.value.message.startswith(
        "cannot read the dump: the command or comment that begins on line 9 exceeds 4194304"
    )
    assert refused.value.hint == "If it is an INSERT with a very large value, make the dump again without --inserts."
