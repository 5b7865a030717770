"""The lexer against statements whose ends are known, and against PostgreSQL's own scanner and parser (libpg_query)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pglast.parser import scan, split

from lastgood.dump.lexer import window
from lastgood.dump.lexer.lexer import tokens
from lastgood.dump.lexer.tokens import (
    Comment,
    CopyData,
    CopyEnd,
    CopyPart,
    CopySpan,
    CopyStart,
    MetaCommand,
    Statement,
    Token,
)
from lastgood.postgres.embedded import EmbeddedServer
from tests.dump.reference_lexer import reference
from tests.dump.statement_texts import Part, texts
from tests.support.real_dumps import dumped

LONG = os.environ.get("LASTGOOD_FUZZ") == "long"
FUZZ = settings(
    max_examples=20_000 if LONG else 120,
    derandomize=not LONG,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
FIXTURES = Path(__file__).parent.parent / "fixtures"
COMMENTS = ("C_COMMENT", "SQL_COMMENT")


def pieces(text: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


def lexed(text: bytes, size: int, portion: int, *, skim: bool = False) -> list[Token]:
    before = window.PORTION
    window.PORTION = portion
    try:
        return list(tokens(pieces(text, size), skim=skim))
    finally:
        window.PORTION = before


def put_together(text: bytes, found: list[Token]) -> bytes:
    """The tokens and the bytes between them, which may only be blanks, semicolons and the ends of blocks of rows."""
    written, at = b"", 0
    for token in found:
        assert not isinstance(token, CopySpan | CopyPart)
        between = text[at : token.offset]
        if isinstance(token, CopyData | CopyEnd) and at and not written.endswith(b"\n"):
            assert re.fullmatch(rb"[ \t\n\r\f\v]*;[ \t\f\v\r]*\n", between), (token, between)
        else:
            assert re.fullmatch(rb"(?:\xef\xbb\xbf)?[ \t\n\r\f\v;]*", between), (token, between)
        own = b"\\." if isinstance(token, CopyEnd) else token.data if isinstance(token, CopyData) else token.text
        written += between + own
        at = token.offset + len(own)
    assert re.fullmatch(rb"[ \t\n\r\f\v;]*", text[at:]), text[at:]
    return written + text[at:]


def commands(found: list[Token]) -> list[Part]:
    """Statements with their rows, as they were put together."""
    listed: list[Part] = []
    for token in found:
        if isinstance(token, Statement):
            listed.append(Part(token.text.decode()))
        elif isinstance(token, CopyStart):
            listed.append(Part(token.text.decode(), rows=""))
        elif isinstance(token, CopyData):
            listed[-1] = Part(listed[-1].text, (listed[-1].rows or "") + token.data.decode())
        else:
            assert isinstance(token, Comment | CopyEnd | MetaCommand)
    return listed


@FUZZ
@given(made=texts(), size=st.integers(1, 40), portion=st.sampled_from([1, 3, 17, 1 << 18]))
def test_fuzz_statements_are_found_as_they_were_put_together(
    made: tuple[str, list[Part]], size: int, portion: int
) -> None:
    text, parts = made[0].encode(), made[1]
    found = lexed(text, size, portion)
    assert commands(found) == [Part(part.text, part.rows) for part in parts]
    assert put_together(text, found) == text
    assert passed_over(lexed(text, size, portion, skim=True)) == passed_over(found)


def passed_over(found: list[Token]) -> list[Token]:
    """The same tokens with one span for the rows of each block."""
    listed: list[Token] = []
    for token in found:
        if isinstance(token, CopyData):
            first = token.data.partition(b"\n")[0]
            token = CopySpan(first, len(token.data), token.rows, token.offset, token.line)
        if isinstance(token, CopySpan) and listed and isinstance(before := listed[-1], CopySpan):
            assert before.offset + before.size == token.offset
            assert before.line + before.rows == token.line
            listed[-1] = replace(before, size=before.size + token.size, rows=before.rows + token.rows)
        else:
            listed.append(token)
    return listed


def without_comments(text: str, cuts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """From the first to the last token that is no comment, of each stretch that has any; in characters."""
    significant = [(token.start, token.end + 1) for token in scan(text) if token.name not in COMMENTS]
    found = []
    for start, end in cuts:
        inside = [place for place in significant if start <= place[0] and place[1] <= end]
        if inside:
            found.append((inside[0][0], inside[-1][1]))
    return found


def in_characters(text: bytes, found: list[Token]) -> list[tuple[int, int]]:
    """Where the statements lie, counted as pglast counts."""
    return [
        (len(text[: token.offset].decode()), len(text[: token.offset + len(token.text)].decode()))
        for token in found
        if isinstance(token, Statement | CopyStart)
    ]


@FUZZ
@given(made=texts(rows=False))
def test_fuzz_statements_are_split_where_libpg_query_splits_them(made: tuple[str, list[Part]]) -> None:
    text, parts = made
    found = lexed(text.encode(), 1 << 18, 1 << 18)
    ours = without_comments(text, in_characters(text.encode(), found))
    assert len(ours) == len(parts)
    if not any(part.body for part in parts):  # it takes the END of a CASE for that of the body
        slices = split(text, with_parser=False, only_slices=True)
        assert ours == without_comments(text, [(one.start, one.stop) for one in slices])
    # Every semicolon that the scanner sees is one of ours, or inside parentheses or a body.
    outside = [token.start for token in scan(text) if token.name == "ASCII_59"]
    within = {place for start, end in ours for place in range(start, end)}
    empty = {match.start() for match in re.finditer(";", text)} - within
    assert set(outside) - within <= empty


def as_sql(text: bytes) -> bytes:
    """A dump without what is no SQL: rows and psql's commands become blanks."""
    for kind, piece, at in reference(text)[0]:
        if kind in ("rows", "end", "meta"):
            end = at + (len(piece) or len(rb"\."))
            text = text[:at] + b" " * (end - at) + text[end:]
    return text


def both_splits(text: bytes) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Where the statements lie, by our lexer and by PostgreSQL's parser."""
    blanked = as_sql(text)
    ours = in_characters(blanked, lexed(text, 1 << 16, 1 << 18))
    theirs = [(one.start, one.stop) for one in split(blanked.decode(), with_parser=True, only_slices=True)]
    return without_comments(blanked.decode(), ours), without_comments(blanked.decode(), theirs)


@pytest.mark.postgres(15, 18)
@pytest.mark.parametrize("options", [(), ("--inserts",), ("--create", "--clean", "--if-exists", "--verbose")])
def test_a_dump_is_split_where_postgresqls_parser_splits_it(server: EmbeddedServer, options: tuple[str, ...]) -> None:
    ours, theirs = both_splits(dumped(server, options))
    assert len(ours) > 100
    assert ours == theirs


@pytest.mark.parametrize(
    "name",
    [
        "hard_to_split",
        "kinds_of_objects",
        "several_statements",
        "several_statements_18",
        "each_byte",
        *sorted(p.stem for p in (FIXTURES / "order").glob("*.sql")),
    ],
)
def test_a_script_is_split_where_postgresqls_parser_splits_it(name: str) -> None:
    (path,) = FIXTURES.rglob(f"{name}.sql")
    ours, theirs = both_splits(_conforming(path.read_bytes()))
    assert ours == theirs


def _conforming(text: bytes) -> bytes:
    """libpg_query reads with standard_conforming_strings on, whatever the text sets."""
    return re.sub(rb"(?s)SET standard_conforming_strings = off;.*SET standard_conforming_strings = on;", b"", text)


@pytest.mark.postgres(15, 18)
def test_all_of_a_dump_is_in_its_tokens_or_is_blank(server: EmbeddedServer) -> None:
    for options in ((), ("--rows-per-insert=7",), ("--create", "--clean", "--if-exists")):
        text = dumped(server, options)
        assert put_together(text, lexed(text, 4096, 1 << 18)) == text
    nasty = (FIXTURES / "hard_to_split.sql").read_bytes()
    assert put_together(nasty, lexed(nasty, 5, 7)) == nasty
