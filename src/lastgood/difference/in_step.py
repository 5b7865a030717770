"""Two streams of rows read in step: rows that are equal on both sides cancel each other out.

The sides of a comparison mostly have the same rows in the same order, so that comparing memory settles nearly all of
them; hashing would cost fifty times as much. Any two equal lines may cancel each other out: that changes neither the
number of rows by which two multisets differ, nor which ones. So the search for the place where the streams agree again
needs no proof, and its failure only leaves more lines.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from numpy.typing import NDArray

    from lastgood.difference.sides import SideName

    Bytes = NDArray[numpy.uint8]

LEFT = 1 << 22
"""Lines that are left are yielded in blocks of this size."""

# A search costs about as much as the hashes of 32 rows. Searches spend a credit that equal rows earn.
_ROWS_PER_SEARCH = 32
_CREDIT = 64.0
_FRESH_CREDIT = 8.0
_FAR_COST = 16
_UNSEARCHED = 1 << 18
_WINDOWS = (1 << 10, 1 << 14)
_FAR = 1 << 23
_FIRST_PIECE = 1 << 9
_LARGEST_PIECE = 1 << 17


def line_count(block: bytes) -> int:
    """The number of line ends, three times as fast as ``bytes.count`` where lines are short."""
    import numpy

    return int(numpy.count_nonzero(numpy.frombuffer(block, dtype=numpy.uint8) == 10))


class _Stream:
    """The lines of one side from ``at`` on, and those that are left of it."""

    def __init__(self, name: SideName, blocks: Iterator[bytes]) -> None:
        self.name = name
        self._blocks = blocks
        self._left: list[bytes] = []
        self._size = 0
        self.data = b""
        self.at = 0
        self.bytes: Bytes

    def more(self) -> bool:
        """Whether there is another line; reads the next block where the last one is used up."""
        import numpy

        while self.at == len(self.data):
            block = next(self._blocks, None)
            if block is None:
                return False
            self.data, self.at = block, 0
            self.bytes = numpy.frombuffer(block, dtype=numpy.uint8)
        return True

    def look_ahead(self, size: int) -> None:
        """Append blocks until so many bytes follow, or the stream ends."""
        import numpy

        pieces = [self.data[self.at :]]
        size -= len(pieces[0])
        while size > 0 and (block := next(self._blocks, None)) is not None:
            pieces.append(block)
            size -= len(block)
        if len(pieces) > 1:
            self.data, self.at = b"".join(pieces), 0
            self.bytes = numpy.frombuffer(self.data, dtype=numpy.uint8)

    def line_end(self, position: int) -> int:
        """The end of the line at a position."""
        return self.data.index(b"\n", position) + 1

    def line_size(self) -> int:
        """The size of the next line."""
        return self.line_end(self.at) - self.at

    def leave(self, end: int) -> None:
        """Leave the lines up to ``end``."""
        if end > self.at:
            self._left.append(self.data[self.at : end])
            self._size += end - self.at
            self.at = end

    def left(self, at_least: int = LEFT) -> Iterator[tuple[SideName, bytes]]:
        """The lines that are left so far, if there are so many bytes."""
        if self._size >= at_least:
            yield self.name, b"".join(self._left)
            self._left.clear()
            self._size = 0


def differing(a: Iterator[bytes], b: Iterator[bytes]) -> Iterator[tuple[SideName, bytes]]:
    """The lines of both sides that remain when pairs of equal lines are removed, in blocks of whole lines.

    The input is blocks of whole lines, each with its LF. Lines that occur on both sides may remain; the difference of
    the multisets does not change."""
    one, two = _Stream("a", a), _Stream("b", b)
    credit, earned = _CREDIT, 0
    while one.more() and two.more():
        if equal := _equal(one, two):
            one.at += equal
            two.at += equal
            earned += equal
            continue
        rows = earned / one.line_size()
        credit, earned = min(_CREDIT, credit + rows / _ROWS_PER_SEARCH) - 1, 0
        ends = _near(one, two) if credit >= 0 else None
        if ends is None and credit >= _FAR_COST:
            credit -= _FAR_COST
            ends = _far(one, two)
        if ends is None:
            ends = _same_size(one, two)
            credit = max(credit, _FRESH_CREDIT)
        for stream, end in zip((one, two), ends, strict=True):
            stream.leave(end)
            yield from stream.left()
    for stream in (one, two):
        while stream.more():
            stream.leave(len(stream.data))
            yield from stream.left()
        yield from stream.left(1)


def _equal(one: _Stream, two: _Stream) -> int:
    """The size of the equal lines at the beginning of both streams."""
    limit = min(len(one.data) - one.at, len(two.data) - two.at)
    done, size = 0, _FIRST_PIECE
    while done < limit:
        end = min(done + size, limit)
        same = one.bytes[one.at + done : one.at + end] == two.bytes[two.at + done : two.at + end]
        first = int(same.argmin())
        if not same[first]:
            done += first
            break
        done, size = end, min(size * 8, _LARGEST_PIECE)
    return max(0, one.data.rfind(b"\n", one.at, one.at + done) + 1 - one.at)


def _near(one: _Stream, two: _Stream) -> tuple[int, int] | None:
    """The next positions from which the streams are equal again, for one line at least; None if none was found."""
    for stream in (one, two):
        stream.look_ahead(stream.line_size() + _WINDOWS[-1])
    end_a, end_b = one.at + one.line_size(), two.at + two.line_size()
    if one.data.startswith(two.data[two.at : end_b], end_a):
        return end_a, two.at  # a row of a that was deleted, or moved to another place
    if two.data.startswith(one.data[one.at : end_a], end_b):
        return one.at, end_b
    for size in _WINDOWS:
        if (found := _within(one, two, size)) is not None:
            return found
    return None


def _within(one: _Stream, two: _Stream, size: int) -> tuple[int, int] | None:
    lines = one.data[one.at : one.at + size].split(b"\n")[:-1]
    places = {line: number for number, line in reversed([*enumerate(lines)])}
    position = two.at
    for line in two.data[two.at : two.at + size].split(b"\n")[:-1]:
        number = places.get(line)
        if number is not None:
            return one.at + sum(len(each) + 1 for each in lines[:number]), position
        position += len(line) + 1
    return None


def _far(one: _Stream, two: _Stream) -> tuple[int, int] | None:
    """The place of the next line of either side further on in the other one: many rows in sequence are missing."""
    for stream in (one, two):
        stream.look_ahead(_FAR)
    if (found := one.data.find(b"\n" + two.data[two.at : two.at + two.line_size()], one.at)) >= 0:
        return found + 1, two.at
    if (found := two.data.find(b"\n" + one.data[one.at : one.at + one.line_size()], two.at)) >= 0:
        return one.at, found + 1
    return None


def _same_size(one: _Stream, two: _Stream) -> tuple[int, int]:
    """The ends of about the same number of bytes on both sides, of one line at least: where all rows were changed in
    their places, those that follow remain near each other."""
    size = min(len(one.data) - one.at, len(two.data) - two.at, _UNSEARCHED)
    return one.line_end(one.at + size - 1), two.line_end(two.at + size - 1)
