"""A digest of a text as a whole, with those of its beginnings, so that a reader can stop soon at another text."""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_128

FIRST = 1 << 16


class TextDigest:
    """The XXH3-128 of added text. ``marks``: those of its first 64 KiB, and of each doubling of that size so far."""

    def __init__(self) -> None:
        self.marks: list[str] = []
        self._digest = xxh3_128()
        self._size = 0
        self._next = FIRST

    def add(self, text: bytes | bytearray) -> None:
        """Add text, which may end anywhere."""
        rest = memoryview(text)
        while len(rest) >= self._next - self._size:
            cut = self._next - self._size
            self._digest.update(rest[:cut])
            self.marks.append(self._digest.hexdigest())
            rest, self._size, self._next = rest[cut:], self._next, self._next * 2
        self._digest.update(rest)
        self._size += len(rest)

    def result(self) -> tuple[str, ...]:
        """The marks, and the digest of all text, in 32 hex digits each."""
        return (*self.marks, self._digest.hexdigest())

    def begins(self, result: Sequence[str]) -> bool:
        """Whether the text so far may be the beginning of one with this result."""
        return self.marks == [*result[: len(self.marks)]]
