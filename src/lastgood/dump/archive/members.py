"""Direct access to the rows of each table in an archive: in any order, several tables at once.

``pg_restore -f -`` writes a whole archive in one stream, through one process. Here each table's rows are read at the
position in the table of contents, in PostgreSQL's own formats (pg_backup_custom.c, pg_backup_directory.c,
pg_backup_tar.c). The end of the rows is always verified. Changed bytes in the content are not always detected: without
compression, or with lz4 or zstd as used by pg_dump, there is no checksum.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, NoReturn

from lastgood.dump.archive.entry_data import DataBlock, Range
from lastgood.dump.archive.toc import LARGE_OBJECTS, TABLE_DATA, VERSIONS, TocEntry, entries_with_data
from lastgood.dump.files import recognize
from lastgood.dump.files.decompress import READ, Method, Readable, decompressed
from lastgood.dump.files.formats import DumpSource, explained
from lastgood.dump.files.recognize import TAR_BLOCK, ArchiveCompression
from lastgood.dump.hints import ANOTHER, CUT_OFF
from lastgood.errors import Corrupt, Incomplete

# pg_dump writes the end of rows for psql, and so also into archives (pg_dump.c, dumpTableData_copy).
_END, _BEHIND_END = b"\n\\.\n", b"\n\n"
_SUFFIXES: tuple[tuple[str, Method], ...] = (("", ""), (".gz", "gzip"), (".lz4", "lz4"), (".zst", "zstd"))
_INSIDE_CUSTOM: dict[ArchiveCompression, Method] = {"": "", "gzip": "zlib", "lz4": "lz4", "zstd": "zstd"}


@dataclass(frozen=True, slots=True)
class ArchiveMember:
    """The rows of one table, or of a part of it.

    ``copy`` is their COPY command, without a semicolon: the same bytes as in the output of ``pg_restore -f -`` and in
    ``RowsStart.copy``; ``size`` is their size on disk in bytes. ``relation`` is for messages.
    """

    copy: bytes
    size: int
    relation: str
    _content: Callable[[], Iterator[bytes]] = field(repr=False, compare=False)

    def blocks(self) -> Iterator[bytes]:
        r"""The rows as COPY text, in portions of about 256 KiB that end anywhere, without the line ``\.``.

        Thread-safe; each call reads the file again. Raises Incomplete or Corrupt, with the position in the file on
        disk, if the rows are truncated or damaged, at the latest after all valid rows; BadPoint when the file can't be
        read.
        """
        return self._content()


def members(source: DumpSource) -> tuple[ArchiveMember, ...] | None:
    """The members of an archive with rows, in pg_restore's order. They are all kept in memory, without their content.

    None if the rows can't be read this way: the dump is no archive, is itself compressed, has INSERT commands, was
    written to a pipe (without the positions of its data), or has an unknown version. Raises Incomplete or Corrupt if
    its table of contents is damaged or a file that it names is missing, BadPoint when it can't be read.
    """
    version = source.archive_version
    if version is None or version[:2] not in VERSIONS or source.compression:
        return None
    with explained(source.path):
        if source.kind == "custom":
            return _of_custom(source)
        if source.kind == "directory":
            return _of_directory(source)
        return _of_tar(source)


# Custom: one file, in which the data of each entry is a block of chunks -------------------------------------------


def _of_custom(source: DumpSource) -> tuple[ArchiveMember, ...] | None:
    with source.path.open("rb", buffering=READ) as file:
        entries = list(entries_with_data(file, str(source.path), source.size))
        begin = file.tell()
    tables = _tables(entries)
    if tables is None or any(entry.offset is None for entry in entries):
        return None
    # Each block ends at the beginning of the next one, of any kind.
    bounds = sorted({entry.offset for entry in entries if entry.offset is not None} | {source.size})
    if bounds[0] != begin:
        raise Corrupt(
            f'cannot read "{source.path}": its table of contents ends at byte {begin}, and its data begins at byte '
            f"{bounds[0]}",
            hint=ANOTHER,
        )
    method = _INSIDE_CUSTOM[source.archive_compression]
    members = []
    for entry in tables:
        offset, what = entry.offset, _entry_name(entry, source.path)
        assert offset is not None
        if offset >= source.size:
            raise Incomplete(
                f"cannot read {what}: its data begins at byte {offset}, and the file ends at byte {source.size}",
                hint=CUT_OFF,
            )
        size = bounds[bisect_right(bounds, offset)] - offset
        members.append(_member(entry, size, source.path, method, partial(DataBlock, what, entry.dump_id, offset, size)))
    return tuple(members)


# Directory: a file for each -----------------------------------------------------------------------------------------


def _of_directory(source: DumpSource) -> tuple[ArchiveMember, ...] | None:
    with (source.path / "toc.dat").open("rb", buffering=READ) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        entries = list(entries_with_data(file, str(source.path / "toc.dat"), end))
    tables = _tables(entries)
    if tables is None:
        return None
    members = []
    for entry in tables:
        path, method, size = _file_of(entry, source.path)
        members.append(_member(entry, size, path, method, lambda file: file))
    return tuple(members)


def _file_of(entry: TocEntry, folder: Path) -> tuple[Path, Method, int]:
    for suffix, method in _SUFFIXES:
        path = folder / (entry.file + suffix)
        with suppress(FileNotFoundError):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise Corrupt(f'cannot read {_entry_name(entry, folder)}: "{path.name}" is not a file', hint=ANOTHER)
            return path, method, status.st_size
    raise Incomplete(
        f'cannot read {_entry_name(entry, folder)}: its file "{entry.file}" is missing, compressed or not',
        hint="Fetch the whole folder again, or choose another restore point.",
    )


# Tar: a member for each, not compressed -------------------------------------------------------------------------------


def _of_tar(source: DumpSource) -> tuple[ArchiveMember, ...] | None:
    with source.path.open("rb", buffering=READ) as file:
        headers = _headers(file, source)
        name, offset, size = next(headers, ("", 0, 0))
        if name != "toc.dat":
            raise Corrupt(f'cannot read "{source.path}": it has no table of contents', hint=ANOTHER)
        file.seek(offset)
        entries = list(entries_with_data(file, str(source.path), offset + size))
        tables = _tables(entries)
        if tables is None:
            return None
        positions = {entry.file: (0, -1) for entry in tables}
        missing = set(positions)
        while missing and (header := next(headers, None)):
            name, offset, size = header
            if name in missing:
                positions[name] = (offset, size)
                missing.remove(name)
    members = []
    for entry in tables:
        (offset, size), what = positions[entry.file], _entry_name(entry, source.path)
        if size < 0:
            raise Incomplete(f'cannot read {what}: the tar archive has no "{entry.file}"', hint=CUT_OFF)
        members.append(_member(entry, size, source.path, "", partial(Range, what, offset, size)))
    return tuple(members)


def _headers(file: BinaryIO, source: DumpSource) -> Iterator[tuple[str, int, int]]:
    """The members of the tar: name, first byte and size of the data."""
    at = 0
    while True:
        file.seek(at)
        header = file.read(TAR_BLOCK)
        if len(header) < TAR_BLOCK or not any(header):
            return
        checksum = header[148:156].strip(b"\0 ").lstrip(b"0")
        if not recognize.is_tar(header) or checksum != b"%o" % (sum(header[:148]) + sum(header[156:]) + 8 * ord(" ")):
            raise Corrupt(f'cannot read "{source.path}": the header of a member is damaged, at byte {at}', hint=ANOTHER)
        name = header[:100].rstrip(b"\0").decode("utf-8", "backslashreplace")
        size = recognize.tar_size(header)
        at += TAR_BLOCK
        if at + size > source.size:
            raise Incomplete(
                f'cannot read "{source.path}": the tar archive ends inside its member "{name}"', hint=CUT_OFF
            )
        yield name, at, size
        at += recognize.padded(size)


# All of them -------------------------------------------------------------------------------------------------------


def _tables(entries: list[TocEntry]) -> list[TocEntry] | None:
    """The entries with rows; None if some have no COPY command, or if there is data of an unknown kind."""
    if any(entry.desc not in (TABLE_DATA, LARGE_OBJECTS) for entry in entries):
        return None
    wanted = [entry for entry in entries if entry.desc == TABLE_DATA]
    return wanted if all(entry.copy.startswith(b"COPY ") for entry in wanted) else None


def _member(
    entry: TocEntry, size: int, path: Path, method: Method, opened: Callable[[BinaryIO], Readable]
) -> ArchiveMember:
    what = _entry_name(entry, path)
    if not entry.copy.endswith(b";\n"):
        raise Corrupt(f"cannot read {what}: its COPY command is incomplete", hint=ANOTHER)
    content = partial(_content, what, path, method, opened)
    return ArchiveMember(entry.copy[:-2], size, entry.relation, content)


def _content(what: str, path: Path, method: Method, opened: Callable[[BinaryIO], Readable]) -> Iterator[bytes]:
    """The rows in the file, which is opened again."""

    def surplus(_: str) -> NoReturn:
        raise Corrupt(
            f"cannot read {what}: other data follows its {method} data, before byte {data.tell()} of the file",
            hint=ANOTHER,
        )

    with explained(path), path.open("rb", buffering=0) as file:
        data = opened(file)
        pieces = decompressed(data, method, what, surplus) if method else iter(lambda: data.read(READ), b"")
        yield from _without_end(pieces, what, data)


def _without_end(pieces: Iterator[bytes], what: str, data: Readable) -> Iterator[bytes]:
    """The rows without their end marker. Raises Incomplete without the marker, Corrupt if other data follows it than
    pg_dump writes."""
    # The first byte of the held text was yielded already; at the beginning it is a placeholder.
    held = b"\n"
    for piece in pieces:
        text = held + piece
        at = text.find(_END)
        if at >= 0:
            if at:
                yield text[1 : at + 1]
            behind = text[at + len(_END) :]
            for more in pieces:
                behind = (behind + more)[: len(_BEHIND_END) + 1]
            if behind == _BEHIND_END:
                return
            if not _BEHIND_END.startswith(behind):
                raise Corrupt(
                    f"cannot read {what}: unexpected data follows the end of its rows, before byte {data.tell()} of "
                    "the file",
                    hint=ANOTHER,
                )
            break
        cut = max(len(text) - len(_END) + 1, 1)
        if cut > 1:
            yield text[1:cut]
        held = text[cut - 1 :]
    raise Incomplete(
        rf'cannot read {what}: the end of its rows (the line "\." and two empty lines) is missing before '
        f"byte {data.tell()} of the file",
        hint=CUT_OFF,
    )


def _entry_name(entry: TocEntry, path: Path) -> str:
    """The name of an entry for messages."""
    return f'{entry.relation} in "{path}"'
