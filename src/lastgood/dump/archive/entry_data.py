"""The data of one entry of an archive, read like a file."""

from __future__ import annotations

import struct
from typing import BinaryIO

from lastgood.dump.archive.toc import INTEGER
from lastgood.dump.files.decompress import READ
from lastgood.dump.hints import ANOTHER, CUT_OFF
from lastgood.errors import Corrupt, Incomplete

_BLOCK_OF_DATA = 1
_INTEGER_AT = struct.Struct("<BI").unpack_from


class DataBlock:
    """The data of an entry: a sequence of chunks. Each has an integer, its length, and as many bytes; 0 is the end.

    A chunk may be a row, or one block of a compressor's output: there may be many millions of them.
    """

    def __init__(self, what: str, dump_id: int, offset: int, size: int, file: BinaryIO) -> None:
        self._file = file
        self._what = what
        self._buffer = b""
        self._at = 0
        self._base = offset  # where in the file the buffer begins
        self._left = 0  # bytes left of the current chunk
        self._ended = False
        self._portion = min(size, READ)  # to read into the next entry's data would be useless
        file.seek(offset)
        kind, number = self._take(1)[0], self._integer()
        if (kind, number) != (_BLOCK_OF_DATA, dump_id):
            raise self._damaged(f"there is no data of entry {dump_id}")

    def tell(self) -> int:
        return self._base + self._at

    def read(self, size: int, /) -> bytes:
        """About ``size`` bytes, at least one and not twice as many; nothing at the end."""
        parts: list[bytes] = []
        have = 0
        while have < size and not self._ended:
            if self._left:
                part = self._some_of_chunk()
            elif part := self._whole_chunks():
                pass
            else:
                self._left = self._integer()
                self._ended = not self._left
                if self._left < 0:
                    raise self._damaged("a length is negative")
                continue
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def _whole_chunks(self) -> bytes:
        """All chunks that are complete in the buffer. Most of the time is spent here."""
        buffer, at, parts = self._buffer, self._at, []
        end = len(buffer)
        while at + INTEGER <= end:
            sign, length = _INTEGER_AT(buffer, at)
            start = at + INTEGER
            stop = start + length
            if sign or not length or stop > end:
                break
            parts.append(buffer[start:stop])
            at = stop
        self._at = at
        return b"".join(parts)

    def _some_of_chunk(self) -> bytes:
        if self._at == len(self._buffer):
            self._fill()
        part = self._buffer[self._at : self._at + self._left]
        self._at += len(part)
        self._left -= len(part)
        return part

    def _integer(self) -> int:
        value: int
        sign, value = _INTEGER_AT(self._take(INTEGER), 0)
        return -value if sign else value

    def _take(self, count: int) -> bytes:
        while len(self._buffer) - self._at < count:
            self._fill()
        self._at += count
        return self._buffer[self._at - count : self._at]

    def _fill(self) -> None:
        more = self._file.read(self._portion)
        if not more:
            end = self._base + len(self._buffer)
            raise Incomplete(
                f"cannot read {self._what}: the file ends at byte {end}, before the end of the rows", hint=CUT_OFF
            )
        self._base += self._at
        self._buffer = self._buffer[self._at :] + more
        self._at = 0

    def _damaged(self, why: str) -> Corrupt:
        return Corrupt(
            f"cannot read {self._what}: its data is damaged before byte {self.tell()} of the file: {why}", hint=ANOTHER
        )


class Range:
    """A range of bytes of a file."""

    def __init__(self, what: str, offset: int, size: int, file: BinaryIO) -> None:
        self._file = file
        self._what = what
        self._left = size
        file.seek(offset)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int, /) -> bytes:
        data = self._file.read(min(size, self._left))
        if self._left and not data:
            raise Incomplete(
                f"cannot read {self._what}: the file ends at byte {self.tell()}, before the end of the rows",
                hint=CUT_OFF,
            )
        self._left -= len(data)
        return data
