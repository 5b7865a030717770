"""Lines that remain of two streams read in step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastgood.difference import in_step
from lastgood.difference.in_step import differing, line_count

ROWS = [b"%d\tnote of row %d\n" % (number, number) for number in range(5000)]


def blocks(lines: Sequence[bytes], sizes: Sequence[int]) -> Iterator[bytes]:
    """The lines in blocks of so many each, the last size for all that follow; some blocks are empty."""
    at, turn = 0, 0
    while at < len(lines):
        size = sizes[min(turn, len(sizes) - 1)]
        yield b"".join(lines[at : at + size])
        at, turn = at + size, turn + 1


def left(
    a: Sequence[bytes], b: Sequence[bytes], sizes_a: Sequence[int] = (64,), sizes_b: Sequence[int] = (50,)
) -> tuple[list[bytes], list[bytes]]:
    found: dict[str, list[bytes]] = {"a": [], "b": []}
    for name, block in differing(blocks(a, sizes_a), blocks(b, sizes_b)):
        assert block.endswith(b"\n")
        found[name] += block.splitlines(keepends=True)
    return found["a"], found["b"]


LINES = st.lists(st.sampled_from([b"\n", b"a\n", b"ab\n", b"b\n", b"aa\n", b"\\N\t\n", b"x" * 40 + b"\n"]), max_size=40)
SIZES = st.lists(st.integers(0, 7), max_size=6).map(lambda sizes: [*sizes, 5])


@given(LINES, LINES, SIZES, SIZES, st.sampled_from([1, 8, 1 << 14]), st.booleans())
def test_the_difference_of_the_multisets_remains(
    a: list[bytes], b: list[bytes], sizes_a: list[int], sizes_b: list[int], few: int, related: bool
) -> None:
    if related:
        b = [*a[len(b) % 7 :], *b[:3], *a[: len(b) % 7]]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_UNSEARCHED", "_FAR", "_FIRST_PIECE", "_LARGEST_PIECE", "LEFT"):
            patch.setattr(in_step, name, few)
        patch.setattr(in_step, "_WINDOWS", (few, 2 * few))
        patch.setattr(in_step, "_CREDIT", 3.0)
        patch.setattr(in_step, "_FAR_COST", 1)
        rest_a, rest_b = left(a, b, sizes_a, sizes_b)
    assert Counter(rest_a) <= Counter(a)
    assert Counter(a) - Counter(rest_a) == Counter(b) - Counter(rest_b)


def test_equal_streams_leave_nothing() -> None:
    assert left(ROWS, ROWS) == ([], [])
    assert left(ROWS, ROWS, (1,), (len(ROWS),)) == ([], [])
    assert left([], []) == ([], [])


def test_one_side_alone_remains_whole() -> None:
    assert left(ROWS, []) == (ROWS, [])
    assert left([], ROWS, (3,), (0, 3)) == ([], ROWS)


def test_updated_rows_that_moved_to_the_end_remain() -> None:
    updated = [row.replace(b"note", b"NOTE") for row in ROWS[::100]]
    kept = [row for row in ROWS if row not in ROWS[::100]]
    assert left(ROWS, [*kept, *updated]) == (ROWS[::100], updated)


def test_rows_that_changed_in_their_places_remain() -> None:
    changed = [row.replace(b"note", b"a longer note") if number % 50 == 0 else row for number, row in enumerate(ROWS)]
    assert left(ROWS, changed, (5000,), (5000,)) == (ROWS[::50], changed[::50])


def test_many_deleted_rows_in_sequence_remain() -> None:
    assert left(ROWS, [*ROWS[:1000], *ROWS[3000:]], (5000,), (5000,)) == (ROWS[1000:3000], [])
    assert left(ROWS[2500:], ROWS, (2500,), (5000,)) == ([], ROWS[:2500])


def test_streams_with_little_in_common_are_not_searched_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    searches = []
    search = in_step._near

    def counting(*streams: in_step._Stream) -> tuple[int, int] | None:
        searches.append(streams)
        return search(*streams)

    monkeypatch.setattr(in_step, "_near", counting)
    a = [b"%d\ta\n" % (number * 7919 % 50000) for number in range(50000)]
    b = [b"%d\ta\n" % (number * 7907 % 50000) for number in range(50000)]
    rest_a, rest_b = left(a, b, (20000,), (20000,))
    assert Counter(a) - Counter(rest_a) == Counter(b) - Counter(rest_b)
    assert len(searches) < 200


def test_a_row_larger_than_a_block() -> None:
    large = [b"1\t" + b"x" * 300_000 + b"\n", b"2\t" + b"y" * 300_000 + b"\n", b"3\tz\n"]
    assert left([*large, *ROWS], [large[2], *ROWS, large[0]], (1,), (2,)) == (large[:2], [large[0]])


def test_line_count() -> None:
    assert line_count(b"") == 0
    assert line_count(b"\n\na\n") == 3
