"""Digests of a text and of its beginnings."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128_hexdigest

from lastgood.facts.text_digest import FIRST, TextDigest

TEXT = bytes(number * 7 % 251 for number in range(4 * FIRST + 5))


def digest_of(*pieces: bytes) -> TextDigest:
    digest = TextDigest()
    for piece in pieces:
        digest.add(piece)
    return digest


@given(st.lists(st.integers(0, len(TEXT)), max_size=6), st.sampled_from([0, 1, FIRST - 1, FIRST, 4 * FIRST, len(TEXT)]))
def test_the_pieces_do_not_matter(cuts: list[int], size: int) -> None:
    text = TEXT[:size]
    pieces = [text[begin:end] for begin, end in pairwise([0, *sorted(cuts), len(TEXT)])]
    marks = [xxh3_128_hexdigest(text[:mark]) for mark in (FIRST, 2 * FIRST, 4 * FIRST) if mark <= size]
    assert digest_of(*pieces).result() == (*marks, xxh3_128_hexdigest(text))


def test_another_text_is_noticed_at_the_next_mark() -> None:
    result = digest_of(TEXT).result()
    other = bytearray(TEXT)
    other[FIRST + 1] ^= 1
    digest = TextDigest()
    digest.add(other[: 2 * FIRST - 1])
    assert digest.begins(result)
    digest.add(other[2 * FIRST - 1 : 2 * FIRST])
    assert not digest.begins(result)
    assert not digest_of(TEXT).begins(digest_of(b"short").result())
