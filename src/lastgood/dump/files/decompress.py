"""Decompression in constant memory, without silent loss of data.

A file may be a sequence of several compressed members (frames, streams), as made by ``cat`` or ``pigz``. Each must
reach its own end: libraries that stop after the first one, or that accept a truncated one, are driven member by member
here.
"""

from __future__ import annotations

import bz2
import lzma
from collections.abc import Callable, Iterator
from typing import Literal, Protocol, cast

import lz4.frame
import zstandard
from isal import isal_zlib

from lastgood.dump.hints import CUT_OFF
from lastgood.errors import Corrupt, Incomplete

Compression = Literal["", "gzip", "zstd", "lz4", "xz", "bzip2"]
Method = Literal[Compression, "zlib"]
"""With zlib, which is only recognized inside other files, because two bytes of text may look like it."""

READ = 1 << 18
_GIVE = 1 << 18
_FINE = 1 << 9
# zstd returns the whole output of its input at once, and 4 bytes can represent 128 KiB: it gets little input at a time,
# and less after a large output.
_ZSTD_LEAST, _ZSTD_MOST = 1 << 6, 1 << 12

# Skippable frames, which pzstd and others write before or between frames; lz4 has the same.
_SKIPPED = tuple(bytes([n]) + b"\x2a\x4d\x18" for n in range(0x50, 0x60))
_MAGIC: dict[Compression, tuple[bytes, ...]] = {
    "gzip": (b"\x1f\x8b",),
    "zstd": (b"\x28\xb5\x2f\xfd", *_SKIPPED),
    "lz4": (b"\x04\x22\x4d\x18", *_SKIPPED),
    "xz": (b"\xfd7zXZ\x00",),
    "bzip2": (b"BZh",),
}
# "xz -9" needs 65 MB; a file can require 4 GB. zstd itself refuses more than 128 MB.
_XZ_MEMORY = 1 << 28
_ZLIB = (b"\x78",)
# isal's type information declares this class as an instance.
_GZIP_DAMAGE = cast("type[Exception]", isal_zlib.error)
# RuntimeError is lz4's.
_DAMAGE: tuple[type[Exception], ...] = (_GZIP_DAMAGE, zstandard.ZstdError, lzma.LZMAError, OSError, RuntimeError)


def compression_of(head: bytes) -> Compression:
    """The compression of a file that begins with ``head``; empty for none, and for an unsupported one."""
    behind = head
    while behind.startswith(_SKIPPED) and len(behind) >= 8:
        behind = behind[8 + int.from_bytes(behind[4:8], "little") :]
    if behind.startswith(_MAGIC["lz4"][:1]):
        return "lz4"
    for name, magics in _MAGIC.items():
        if head.startswith(magics):
            return name
    return ""


def may_become_compressed(start: bytes) -> bool:
    """Whether ``start`` may be the beginning of a truncated compressed file."""
    return any(magic.startswith(start) for magics in _MAGIC.values() for magic in magics)


class Readable(Protocol):
    """The compressed data; an empty read is its end. ``tell`` returns the position in the file on disk, for
    messages."""

    def read(self, size: int, /) -> bytes: ...
    def tell(self) -> int: ...


class _Member(Protocol):
    """One compressed member. ``take`` yields the complete output of some more input, in small pieces; input after the
    end is kept in ``unused``."""

    unused: bytes

    def take(self, data: bytes) -> Iterator[bytes]: ...

    @property
    def ended(self) -> bool: ...


class _Gzip:
    """gzip and zlib: the same data, with another header and another checksum."""

    def __init__(self, window_bits: int) -> None:
        self._inner = isal_zlib.decompressobj(window_bits)
        self.unused = b""

    def take(self, data: bytes) -> Iterator[bytes]:
        while True:
            output = self._inner.decompress(data, _GIVE)
            if output:
                yield output
            data = self._inner.unconsumed_tail
            if self.ended or (not data and len(output) < _GIVE):
                break
        self.unused = self._inner.unused_data

    @property
    def ended(self) -> bool:
        return bool(self._inner.eof)


class _KeepsInput(Protocol):
    """The interface of decompressors of the standard library and of lz4."""

    @property
    def needs_input(self) -> bool: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Buffered:
    """bzip2, xz and lz4: the libraries keep surplus input."""

    def __init__(self, inner: _KeepsInput) -> None:
        self._inner = inner
        self.unused = b""

    def take(self, data: bytes) -> Iterator[bytes]:
        yield self._inner.decompress(data, _GIVE)
        while not self.ended and not self._inner.needs_input:
            yield self._inner.decompress(b"", _GIVE)
        # lz4 returns None for no data.
        self.unused = self._inner.unused_data or b""

    @property
    def ended(self) -> bool:
        return self._inner.eof


class _Zstd:
    def __init__(self) -> None:
        self._inner = zstandard.ZstdDecompressor().decompressobj()
        self._step = _ZSTD_LEAST
        self.unused = b""

    def take(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            output = self._inner.decompress(data[at : at + self._step])
            at += self._step
            yield output
            if self.ended:
                self.unused = self._inner.unused_data + data[at:]
                return
            if len(output) > _GIVE:
                self._step = max(self._step // 2, _ZSTD_LEAST)
            else:
                self._step = min(self._step * 2, _ZSTD_MOST)

    @property
    def ended(self) -> bool:
        return self._inner.eof


def _fine(member: _Member, data: bytes) -> Iterator[bytes]:
    """The same, a few bytes of input at a time, so that an error loses only their output."""
    for at in range(0, len(data), _FINE):
        yield from member.take(data[at : at + _FINE])
        if member.ended:
            member.unused += data[at + _FINE :]
            return


_MEMBERS: dict[Method, Callable[[], _Member]] = {
    "gzip": lambda: _Gzip(31),
    "zlib": lambda: _Gzip(15),
    "zstd": _Zstd,
    "lz4": lambda: _Buffered(lz4.frame.LZ4FrameDecompressor()),
    "xz": lambda: _Buffered(lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)),
    "bzip2": lambda: _Buffered(bz2.BZ2Decompressor()),
}


def decompressed(
    file: Readable, compression: Method, what: str, note: Callable[[str], None], *, fine: bool = False
) -> Iterator[bytes]:
    """The content of ``file`` in portions of about 256 KiB; ``what`` names it in messages (``"/backups/x.gz"``,
    quoted).

    Other data after the last complete member is left out, and reported to ``note``; zeros are padding. Raises
    Incomplete for a truncated member, Corrupt for a damaged one, after all preceding content; ``fine`` loses less of
    it, but is slower.
    """
    gathered: list[bytes] = []
    size = 0
    try:
        for piece in _pieces(file, compression, what, note, fine):
            gathered.append(piece)
            size += len(piece)
            if size >= _GIVE:
                yield b"".join(gathered)
                gathered.clear()
                size = 0
    except (Corrupt, Incomplete):
        yield b"".join(gathered)
        raise
    if size:
        yield b"".join(gathered)


def _pieces(file: Readable, compression: Method, what: str, note: Callable[[str], None], fine: bool) -> Iterator[bytes]:
    magics = _ZLIB if compression == "zlib" else _MAGIC[compression]
    longest = max(map(len, magics))
    data = b""
    first = True
    while True:
        # Between members zeros are padding.
        data = data.lstrip(b"\0")
        while len(data) < longest and (more := file.read(READ)):
            data = (data + more).lstrip(b"\0")
        if not data:
            if not first:
                return
            raise Incomplete(f"cannot read {what}: it has no {compression} data", hint=CUT_OFF)
        if not data.startswith(magics) and not any(magic.startswith(data) for magic in magics):
            rest = len(data) + sum(map(len, iter(lambda: file.read(READ), b"")))
            note(f"{rest} bytes after the end of the {compression} data are not part of it and were left out")
            return
        first = False
        member = _MEMBERS[compression]()
        while True:
            try:
                yield from _fine(member, data) if fine else member.take(data)
            except _DAMAGE as error:
                raise Corrupt(
                    f"cannot read {what}: its {compression} data is damaged before byte {file.tell()} of the file: "
                    f"{str(error) or 'it does not decompress'}",
                    hint="Choose another restore point: lastgood points",
                ) from error
            if member.ended:
                break
            data = file.read(READ)
            if not data:
                raise Incomplete(
                    f"cannot read {what}: unexpected end of {compression} data after {file.tell()} bytes",
                    hint=CUT_OFF,
                )
        data = member.unused
