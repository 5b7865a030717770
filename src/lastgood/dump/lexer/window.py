"""The current part of a text: bytes that arrive in portions, with line and offset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from lastgood.errors import Corrupt

PORTION = 1 << 18
"""The text is read in portions of at least this many bytes and less than twice as many; the last may be shorter."""

LONGEST = 1 << 28
"""The maximum size of a command or comment, which is kept in memory as a whole. (Rows may be longer, see lexer.py.)"""

_BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff")
_SHOWN_BEHIND_NUL = 16


def _portions(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Split chunks, because the memory of a regular expression grows with its input."""
    return (
        chunk[at : at + PORTION] if len(chunk) > PORTION else chunk
        for chunk in chunks
        for at in range(0, len(chunk), PORTION)
    )


class Window:
    """A window on a text. ``buffer`` has the text from offset ``base``. ``start`` is the first byte that is still
    needed and ``pos`` the first unprocessed one, both as indexes of ``buffer``; ``more`` may move them.

    The text ends at a NUL byte, if it has one: ``found_nul()`` is the error to raise there. ``limit``: the maximum
    number of needed bytes; more raises Corrupt.
    """

    limit = LONGEST

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = _portions(chunks)
        self.buffer = bytearray()
        self.base = 0
        self.start = 0
        self.pos = 0
        self._ended = False
        self._behind_nul: bytes | None = None
        self._line = 1
        self._counted = 0  # the index up to which line ends are counted in _line

    def more(self) -> bool:
        """Append a portion, or the rest, and discard the text before ``start``. False at the end."""
        if self._ended:
            return False
        if self.start:
            self.line()
            del self.buffer[: self.start]
            self.base += self.start
            self.pos -= self.start
            self._counted = self.start = 0
        before = len(self.buffer)
        if before > self.limit:
            raise Corrupt(
                f"cannot read the dump: the command or comment that begins on line {self.line()} exceeds "
                f"{self.limit} bytes",
                hint="If it is an INSERT with a very large value, make the dump again without --inserts.",
                line=self.line(),
                offset=self.base,
            )
        for chunk in self._chunks:
            nul = chunk.find(0)
            if nul >= 0:
                self.buffer += chunk[:nul]
                shown = chunk[nul : nul + _SHOWN_BEHIND_NUL]
                while len(shown) < _SHOWN_BEHIND_NUL and (chunk := next(self._chunks, b"")):
                    shown += chunk[: _SHOWN_BEHIND_NUL - len(shown)]
                self._behind_nul = shown
                break
            self.buffer += chunk
            if len(self.buffer) - before >= PORTION:
                return True
        self._ended = True
        return len(self.buffer) > before

    def has(self, count: int) -> bool:
        """Whether at least ``count`` bytes follow from ``pos`` on; they are then in the buffer."""
        while len(self.buffer) - self.pos < count:
            if not self.more():
                return False
        return True

    def cut(self, start: int, end: int) -> bytes:
        """A copy of the buffer from index ``start`` to ``end``."""
        with memoryview(self.buffer) as view:
            return bytes(view[start:end])

    def line(self) -> int:
        """The number of the line, from 1, that contains ``start``."""
        if self.start > self._counted:
            self._line += self.buffer.count(b"\n", self._counted, self.start)
            self._counted = self.start
        return self._line

    def advance(self, start: int, lines: int) -> None:
        """Move ``start`` forward; the caller has counted the line ends in between."""
        self._line = self.line() + lines
        self._counted = self.start = start

    def jump(self, offset: int, lines: int, chunks: Callable[[int], Iterable[bytes]]) -> None:
        """Move ``start`` and ``pos`` forward to ``offset``, over ``lines`` line ends. ``chunks`` returns the text from
        an offset, if that is beyond the buffer."""
        if offset < self.base + len(self.buffer):
            self.advance(offset - self.base, lines)
            self.pos = self.start
            return
        self._line = self.line() + lines
        self._chunks = _portions(chunks(offset))
        self.buffer.clear()
        self.base = offset
        self.start = self.pos = self._counted = 0
        self.more()

    def line_of(self, offset: int) -> int:
        """The number of the line of a byte after ``start``."""
        return self.line() + self.buffer.count(b"\n", self.start, offset - self.base)

    @property
    def nul(self) -> bool:
        """Whether the text read so far ends because of a NUL byte."""
        return self._behind_nul is not None

    def found_nul(self) -> Corrupt:
        """The error for the NUL byte, with the most likely reason."""
        assert self._behind_nul is not None
        offset = self.base + len(self.buffer)
        line = self.line_of(offset)
        place = f"line {line} (byte {offset})"
        marked = self.base == 0 and self.buffer.startswith(_BYTE_ORDER_MARKS)
        every_other = not any(self._behind_nul[::2]) and len(self._behind_nul) > 1 and all(self._behind_nul[1::2])
        if marked or (offset < 2 and every_other):
            reason = f"it is UTF-16 text, as PowerShell's > writes it; no dump has that encoding (NUL byte in {place})"
            hint = 'Convert a copy with "iconv -f UTF-16 -t UTF-8", or choose another restore point.'
        elif not any(self._behind_nul):
            reason = f"it has NUL bytes from {place}, which is typical of a file whose end was never written"
            hint = "Choose another restore point: lastgood points"
        else:
            reason = f"it has a NUL byte in {place}, which no dump contains"
            hint = "The file is damaged, or not a plain dump: choose another restore point."
        return Corrupt(f"cannot read the dump: {reason}", hint=hint, line=line, offset=offset)
