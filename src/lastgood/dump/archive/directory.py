r"""Check for truncated directory archives that pg_restore accepts (observed with 15 to 18).

pg_restore reads a data file to its end, wherever that is. A truncated file without compression or with lz4 or zstd, and
an empty gzip file, give fewer rows without an error. A table's file then lacks its last line ``\.``, and the following
commands are read as rows; objects missing in the list of large objects are not restored.

An uncompressed large object has no end marker, and an empty one is an empty file with lz4 and zstd, too: only a
manifest can reveal their truncation.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from lastgood.dump.archive.toc import lists_and_files
from lastgood.dump.hints import ANOTHER, CUT_OFF
from lastgood.dump.names import shown
from lastgood.errors import BadPoint, Corrupt, Incomplete, Unsafe

_DATA = re.compile(r"(?:\d+|(?P<object>blob_\d+))\.dat(?P<packing>\.gz|\.lz4|\.zst|)")
_LIST = re.compile(r"blobs(?:_\d+)?\.toc")
_INSIDE = re.compile(r"[^/]*")
_PACKED_LIST = re.compile(r"blobs.*\.toc\..*", re.DOTALL)
# The text that pg_dump writes after the rows of a table (dumpTableData_copy, dumpTableData_insert).
_END_OF_ROWS, _END_OF_INSERTS, _NO_INSERTS = b"\\.\n\n\n", b"\n\n\n", b"\n\n"
# Bytes: enough for more than ten million large objects.
_LONGEST_LIST = 1 << 28
_INSERT = b"INSERT INTO "
_GZIP = b"\x1f\x8b"
# Ten bytes of header, eight of checksum and length, and at least two for the data between them.
_SMALLEST_GZIP = 20
_LZ4 = b"\x04\x22\x4d\x18"


def check_names(folder: Path) -> None:
    """Check that the archive names only its own files: pg_restore would follow ``../`` to any file of the operator, and
    the restored database would show it.

    Raises Unsafe, Incomplete or Corrupt, OSError when a file can't be read.
    """
    contents = folder / "toc.dat"
    with contents.open("rb") as file:
        lists, files = lists_and_files(file, str(contents), contents.stat().st_size)
    for path in folder.iterdir():
        if _PACKED_LIST.fullmatch(path.name):
            raise _unsafe(folder, f'the list of large objects "{shown(path.name)}" is compressed')
        if _LIST.fullmatch(path.name):
            files += _lines(path)
    for pattern, names in ((_LIST, lists), (_INSIDE, files)):
        for name in names:
            if pattern.fullmatch(name) is None:
                raise _unsafe(folder, f'it names "{shown(name)}"')


def _unsafe(folder: Path, why: str) -> Unsafe:
    return Unsafe(f'cannot read "{folder}": {why}, which pg_dump never writes', hint=ANOTHER)


def check_whole(folder: Path) -> None:
    """Check the ends of the data files, and the blocks of compressed ones without decompressing them.

    Raises Incomplete or Corrupt with the name of the first truncated file, OSError when a file can't be read.
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
            f'cannot read "{folder}": it has the large object "{name}", which is in no list of large objects',
            hint=CUT_OFF,
        )


def _objects(path: Path) -> Iterator[str]:
    """The names in a list, without their extension."""
    *lines, last = _lines(path)
    if last or not lines:
        raise _ends_early(path)
    for line in lines:
        yield line.rpartition(" ")[2].partition(".")[0]


def _lines(path: Path) -> list[str]:
    """The lines of a list, each with an OID and a name; the last one is empty unless the list was truncated."""
    with path.open("rb") as file:
        text = file.read(_LONGEST_LIST + 1)
    if len(text) > _LONGEST_LIST:
        raise Corrupt(
            f'cannot read "{path.parent}": its file "{path.name}" is not a list of large objects',
            hint="Choose another restore point: lastgood points",
        )
    return text.decode("ascii", "replace").split("\n")


def _check_data(file: BinaryIO, path: Path, packing: str, *, of_table: bool) -> None:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if packing == ".gz":
        # pg_restore reads other data as uncompressed; it detects damage after the header itself.
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
    """The end of each part of the frame (lz4_Frame_format.md); the last one is the end of the file."""
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
        repeated = block >> 1 & 3 == 1  # one byte represents the whole block
        at += 3 + (1 if repeated else block >> 3)
        if block & 1:
            yield at + checksum
            return


def _ends_early(path: Path) -> BadPoint:
    return Incomplete(f'cannot read "{path.parent}": its file "{path.name}" is truncated', hint=CUT_OFF)


def _damaged(path: Path, packing: str) -> BadPoint:
    return Corrupt(
        f'cannot read "{path.parent}": its file "{path.name}" is not {packing} data',
        hint="Choose another restore point: lastgood points",
    )
