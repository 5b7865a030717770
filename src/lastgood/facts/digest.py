"""A content digest: the number of lines, and the sum modulo 2^128 of the XXH3-128 of each, independent of their
order."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from xxhash import xxh3_128_intdigest

MODULUS = 1 << 128
# From this length of a line, a search for line ends is faster than a test of each byte.
_LONG = 500


@dataclass
class RowsDigest:
    """The digest of added lines. ``rows`` is their number; ``total`` is the sum of their XXH3-128."""

    rows: int = 0
    total: int = 0

    def add(self, batch: bytes) -> None:
        """Add whole lines, each with its line end (LF or CR LF), which is not hashed."""
        if batch:
            if batch.find(b"\n", _LONG) == len(batch) - 1 and batch.find(b"\n", 0, _LONG) < 0:
                # One line, possibly very long: avoid a copy of it.
                self.add_hashed(xxh3_128_intdigest(memoryview(batch)[: -2 if batch.endswith(b"\r\n") else -1]))
                return
            lines = split_lines(batch)
            if batch.find(b"\r\n") >= 0:
                lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
            self.add_lines(lines)

    def add_lines(self, lines: Sequence[bytes]) -> None:
        """Add lines without line ends."""
        self.rows += len(lines)
        self.total = (self.total + sum(map(xxh3_128_intdigest, lines))) % MODULUS

    def add_hashed(self, line: int) -> None:
        """Add one line by its XXH3-128."""
        self.rows += 1
        self.total = (self.total + line) % MODULUS

    def hexdigest(self) -> str:
        """The sum as 32 hex digits."""
        return f"{self.total % MODULUS:032x}"


def split_lines(batch: bytes) -> list[bytes]:
    """The lines of a batch of whole lines, without their LF."""
    if batch.find(b"\n", 0, _LONG) < 0 and batch:
        return [line[:-1] for line in io.BytesIO(batch).readlines()]
    lines = batch.split(b"\n")
    lines.pop()
    return lines


def whole_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, split only at line ends; the last line may lack its line end."""
    rest: list[bytes] = []
    for block in blocks:
        end = block.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, block[:end]]) if rest else block[:end]
            rest = [block[end:]] if end < len(block) else []
        else:
            rest.append(block)
    if rest:
        yield b"".join(rest)


def large_object_line(oid: int, content: str) -> bytes:
    """The line for a large object: its OID, a tab, the XXH3-128 of its bytes as hex digits."""
    return b"%d\t%s\n" % (oid, content.encode())
