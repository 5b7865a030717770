r"""Is a directory archive whole? What pg_restore takes for whole, and is not (seen with 15 to 18).

It reads a data file to its end, wherever that is: an uncompressed one, an lz4 or zstd one that is cut off anywhere, and
a gzip one of no bytes at all, give fewer rows without an error. What a table's file lacks then is its last line
``\.``, and the commands that follow are taken for rows; what the list of large objects lacks is not restored.

Of an uncompressed large object nothing tells where it should end, and an empty one is a file of no bytes with lz4 and
zstd, too: that such a one was cut is known by a manifest alone.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from lastgood.errors import BadPoint, Corrupt, Incomplete

_DATA = re.compile(r"(?:\d+|(?P<object>blob_\d+))\.dat(?P<packing>\.gz|\.lz4|\.zst|)")
_LIST = re.compile(r"blobs(?:_\d+)?\.toc")
_CUT_OFF = "The file was cut off, or its maker was stopped: choose another restore point."
# What pg_dump writes behind the rows of a table (dumpTableData_copy, dumpTableData_insert).
_END_OF_ROWS, _END_OF_INSERTS, _NO_INSERTS = b"\\.\n\n\n", b"\n\n\n", b"\n\n"
# Bytes: room for more than ten million large objects.
_LONGEST_LIST = 1 << 28
_INSERT = b"INSERT INTO "
_GZIP = b"\x1f\x8b"
# Ten bytes of header, eight of checksum and length, and no less than two for the end of the data between them.
_SMALLEST_GZIP = 20
_LZ4 = b"\x04\x22\x4d\x18"


def check_whole(folder: Path) -> None:
    """Looks at the ends of the data files, and at the blocks of the compressed ones without decompressing them.

    Raises Incomplete or Corrupt with the name of the first file that is not whole, OSError when one can't be read.
    """
    objects: set[str] = set()
    listed: set[str] = set()
    for path in sorted(folder.iterdir()):
        if (data := _DATA.fullmatch(path.name)) is not None:
            with path.open("rb") as file:
                _check_data(file, path, data["packing"], of_table=data["object"] is None)
            if data["object"] is not None:
                objects.add(data["object"])
        elif _LIST.fullmatch(path.name):
            listed.update(_objects(path))
    for name in sorted(objects - listed):
        raise Incomplete(
            f'cannot read "{folder}": it holds the large object "{name}", which no list of large objects names',
            hint=_CUT_OFF,
        )


def _objects(path: Path) -> Iterator[str]:
    """The names, without their extension, of a list: a line each, of an OID and a name."""
    with path.open("rb") as file:
        text = file.read(_LONGEST_LIST + 1)
    if len(text) > _LONGEST_LIST:
        raise Corrupt(
            f'cannot read "{path.parent}": its file "{path.name}" is not a list of large objects',
            hint="Choose another restore point.",
        )
    if not text.endswith(b"\n"):
        raise _ends_early(path)
    for line in text.decode("ascii", "replace").splitlines():
        yield line.rpartition(" ")[2].partition(".")[0]


def _check_data(file: BinaryIO, path: Path, packing: str, *, of_table: bool) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if packing == ".gz":
        # What begins otherwise is taken for uncompressed data; what is damaged behind that, pg_restore finds.
        if size < _SMALLEST_GZIP:
            raise _ends_early(path)
        if file.read(len(_GZIP)) != _GZIP:
            raise _damaged(path, "gzip")
    elif packing and (size or of_table):
        ends = _lz4_ends if packing == ".lz4" else _zstd_ends
        if any(end > size for end in ends(file, path)):
            raise _ends_early(path)
    elif of_table:
        head = file.read(len(_INSERT))
        file.seek(max(0, size - len(_END_OF_ROWS)))
        tail = file.read()
        inserts = head == _INSERT and tail.endswith(_END_OF_INSERTS)
        if not inserts and tail not in (_END_OF_ROWS, _NO_INSERTS):
            raise _ends_early(path)


def _lz4_ends(file: BinaryIO, path: Path) -> Iterator[int]:
    """Where each part of the one frame ends (lz4_Frame_format.md); the last is the end of the file."""
    head = file.read(6)
    yield 7
    if not head.startswith(_LZ4):
        raise _damaged(path, "lz4")
    flags = head[4]
    at = 6 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0) + 1
    block_sum, content_sum = (4 if flags & bit else 0 for bit in (0x10, 0x04))
    while True:
        yield at + 4
        file.seek(at)
        (length,) = struct.unpack("<I", file.read(4))
        at += 4
        if length == 0:
            yield at + content_sum
            return
        at += (length & 0x7FFF_FFFF) + block_sum


def _zstd_ends(file: BinaryIO, path: Path) -> Iterator[int]:
    """The same for zstd (RFC 8878)."""
    head = file.read(18)
    yield 9
    try:
        at = zstandard.frame_header_size(head)
        checksum = 4 if zstandard.get_frame_parameters(head).has_checksum else 0
    except zstandard.ZstdError:
        raise _damaged(path, "zstd") from None
    while True:
        yield at + 3
        file.seek(at)
        block = int.from_bytes(file.read(3), "little")
        repeated = block >> 1 & 3 == 1  # one byte stands for all of the block
        at += 3 + (1 if repeated else block >> 3)
        if block & 1:
            yield at + checksum
            return


def _ends_early(path: Path) -> BadPoint:
    return Incomplete(f'cannot read "{path.parent}": its file "{path.name}" ends before its end', hint=_CUT_OFF)


def _damaged(path: Path, packing: str) -> BadPoint:
    return Corrupt(
        f'cannot read "{path.parent}": its file "{path.name}" is not {packing} data',
        hint="Choose another restore point.",
    )
