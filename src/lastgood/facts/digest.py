"""A content digest: how many lines, and the sum modulo 2^128 of the XXH3-128 of each, whatever their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from xxhash import xxh3_128_intdigest

MODULUS = 1 << 128


@dataclass
class RowsDigest:
    """Adds up lines. ``rows`` counts them; ``total`` is the sum of their XXH3-128."""

    rows: int = 0
    total: int = 0

    def add(self, batch: bytes) -> None:
        """Adds whole lines, each with its line end (LF or CR LF), which is not hashed."""
        if batch:
            lines = batch.split(b"\n")
            lines.pop()
            if batch.find(b"\r\n") >= 0:
                lines = [line[:-1] if line.endswith(b"\r") else line for line in lines]
            self.add_lines(lines)

    def add_lines(self, lines: Sequence[bytes]) -> None:
        """Adds lines that have no line ends."""
        self.rows += len(lines)
        self.total = (self.total + sum(map(xxh3_128_intdigest, lines))) % MODULUS

    def hexdigest(self) -> str:
        """32 hex digits."""
        return f"{self.total % MODULUS:032x}"


def large_object_line(oid: int, content: str) -> bytes:
    """The line that stands for a large object: its OID, a tab, the XXH3-128 of its bytes as hex digits."""
    return b"%d\t%s\n" % (oid, content.encode())
