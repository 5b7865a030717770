"""The rows of each table of an archive, by themselves: read directly, in any order, several at once.

``pg_restore -f -`` gives all of an archive in one stream, through one process. Here each table's rows are sought where
the table of contents says that they are, in PostgreSQL's own formats (pg_backup_custom.c, pg_backup_directory.c,
pg_backup_tar.c). That they end where pg_dump ended them is always proved; their content is as good as the archive:
where that is not compressed, or with lz4 or zstd as pg_dump uses them, no checksum tells of changed bytes.
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

from lastgood.dump import recognize
from lastgood.dump.archive_data import Block, Range
from lastgood.dump.decompress import READ, Method, Readable, decompressed
from lastgood.dump.formats import DumpSource, explained
from lastgood.dump.recognize import TAR_BLOCK, ArchiveCompression
from lastgood.dump.toc import LARGE_OBJECTS, TABLE_DATA, VERSIONS, TocEntry, entries_with_data
from lastgood.errors import Corrupt, Incomplete

_ANOTHER = "Choose another restore point."
_CUT_OFF = "The file was cut off, or its maker was stopped: choose another restore point."
# pg_dump writes the end of the rows as psql needs it, and so into archives too (pg_dump.c, dumpTableData_copy).
_END, _BEHIND_END = b"\n\\.\n", b"\n\n"
_SUFFIXES: tuple[tuple[str, Method], ...] = (("", ""), (".gz", "gzip"), (".lz4", "lz4"), (".zst", "zstd"))
_INSIDE_CUSTOM: dict[ArchiveCompression, Method] = {"": "", "gzip": "zlib", "lz4": "lz4", "zstd": "zstd"}


@dataclass(frozen=True, slots=True)
class Member:
    """The rows of one table, or of one part of it.

    ``copy`` is the COPY command that takes them, without a semicolon, the same bytes as in what ``pg_restore -f -``
    writes and so in ``RowsStart.copy``; ``size`` is what they take up on disk, in bytes. ``relation`` is for messages.
    """

    copy: bytes
    size: int
    relation: str
    _content: Callable[[], Iterator[bytes]] = field(repr=False, compare=False)

    def blocks(self) -> Iterator[bytes]:
        r"""The rows as COPY text, in portions of about 256 KiB that end anywhere, without the line ``\.``.

        May be called by several threads, and again: each call reads the file anew. Raises Incomplete or Corrupt, with
        the byte of the file on disk, where the rows are cut or damaged, at the latest when all that is good was given;
        BadPoint when the file can't be read.
        """
        return self._content()


def members(source: DumpSource) -> tuple[Member, ...] | None:
    """The members of an archive that hold rows, in the order in which pg_restore gives them; memory: what they take.

    None when the rows can't be had this way: the dump is no archive, or itself compressed, or holds INSERT commands, or
    was written to a pipe, so that it does not say where its data is; or it is of a version that is not known here.
    Raises Incomplete or Corrupt when its table of contents is damaged or a file that it names is missing, BadPoint when
    it can't be read.
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


def _of_custom(source: DumpSource) -> tuple[Member, ...] | None:
    with source.path.open("rb", buffering=READ) as file:
        entries = list(entries_with_data(file, str(source.path), source.size))
        begin = file.tell()
    wanted = _tables(entries)
    if wanted is None or any(entry.offset is None for entry in entries):
        return None
    # Each block ends where the next one, of whatever kind, begins.
    bounds = sorted({entry.offset for entry in entries if entry.offset is not None} | {source.size})
    if bounds[0] != begin:
        raise Corrupt(
            f'cannot read "{source.path}": its table of contents ends at byte {begin}, and its data begins at byte '
            f"{bounds[0]}",
            hint=_ANOTHER,
        )
    method = _INSIDE_CUSTOM[source.archive_compression]
    found = []
    for entry in wanted:
        offset, what = entry.offset, _named(entry, source.path)
        assert offset is not None
        if offset >= source.size:
            raise Incomplete(
                f"cannot read {what}: its data begins at byte {offset}, and the file ends at byte {source.size}",
                hint=_CUT_OFF,
            )
        size = bounds[bisect_right(bounds, offset)] - offset
        found.append(_member(entry, size, source.path, method, partial(Block, what, entry.dump_id, offset, size)))
    return tuple(found)


# Directory: a file for each -----------------------------------------------------------------------------------------


def _of_directory(source: DumpSource) -> tuple[Member, ...] | None:
    with (source.path / "toc.dat").open("rb", buffering=READ) as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(0)
        entries = list(entries_with_data(file, str(source.path / "toc.dat"), end))
    wanted = _tables(entries)
    if wanted is None:
        return None
    found = []
    for entry in wanted:
        path, method, size = _file_of(entry, source.path)
        found.append(_member(entry, size, path, method, lambda file: file))
    return tuple(found)


def _file_of(entry: TocEntry, folder: Path) -> tuple[Path, Method, int]:
    for suffix, method in _SUFFIXES:
        path = folder / (entry.file + suffix)
        with suppress(FileNotFoundError):
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise Corrupt(f'cannot read {_named(entry, folder)}: "{path.name}" is not a file', hint=_ANOTHER)
            return path, method, status.st_size
    raise Incomplete(
        f'cannot read {_named(entry, folder)}: its file "{entry.file}" is missing, compressed or not',
        hint="Fetch the whole folder again, or choose another restore point.",
    )


# Tar: a member for each, not compressed -------------------------------------------------------------------------------


def _of_tar(source: DumpSource) -> tuple[Member, ...] | None:
    with source.path.open("rb", buffering=READ) as file:
        headers = _headers(file, source)
        name, offset, size = next(headers, ("", 0, 0))
        if name != "toc.dat":
            raise Corrupt(f'cannot read "{source.path}": it has no table of contents any more', hint=_ANOTHER)
        file.seek(offset)
        entries = list(entries_with_data(file, str(source.path), offset + size))
        wanted = _tables(entries)
        if wanted is None:
            return None
        lying = {entry.file: (0, -1) for entry in wanted}
        missing = set(lying)
        while missing and (header := next(headers, None)):
            name, offset, size = header
            if name in missing:
                lying[name] = (offset, size)
                missing.remove(name)
    found = []
    for entry in wanted:
        (offset, size), what = lying[entry.file], _named(entry, source.path)
        if size < 0:
            raise Incomplete(f'cannot read {what}: the tar archive has no "{entry.file}"', hint=_CUT_OFF)
        found.append(_member(entry, size, source.path, "", partial(Range, what, offset, size)))
    return tuple(found)


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
            raise Corrupt(
                f'cannot read "{source.path}": the header of a member is damaged, at byte {at}', hint=_ANOTHER
            )
        name = header[:100].rstrip(b"\0").decode("utf-8", "backslashreplace")
        size = recognize.tar_size(header)
        at += TAR_BLOCK
        if at + size > source.size:
            raise Incomplete(
                f'cannot read "{source.path}": the tar archive ends inside its member "{name}"', hint=_CUT_OFF
            )
        yield name, at, size
        at += recognize.padded(size)


# All of them -------------------------------------------------------------------------------------------------------


def _tables(entries: list[TocEntry]) -> list[TocEntry] | None:
    """Those with rows; None when some have no COPY command, or there is data of a kind that is not known here."""
    if any(entry.desc not in (TABLE_DATA, LARGE_OBJECTS) for entry in entries):
        return None
    wanted = [entry for entry in entries if entry.desc == TABLE_DATA]
    return wanted if all(entry.copy.startswith(b"COPY ") for entry in wanted) else None


def _member(entry: TocEntry, size: int, path: Path, method: Method, opened: Callable[[BinaryIO], Readable]) -> Member:
    what = _named(entry, path)
    if not entry.copy.endswith(b";\n"):
        raise Corrupt(f"cannot read {what}: its COPY command has no end", hint=_ANOTHER)
    content = partial(_content, what, path, method, opened)
    return Member(entry.copy[:-2], size, entry.relation, content)


def _content(what: str, path: Path, method: Method, opened: Callable[[BinaryIO], Readable]) -> Iterator[bytes]:
    """The rows in the file that is opened anew."""

    def surplus(_: str) -> NoReturn:
        raise Corrupt(
            f"cannot read {what}: something that is no {method} data follows its {method} data, before byte "
            f"{data.tell()} of the file",
            hint=_ANOTHER,
        )

    with explained(path), path.open("rb", buffering=0) as file:
        data = opened(file)
        pieces = decompressed(data, method, what, surplus) if method else iter(lambda: data.read(READ), b"")
        yield from _without_end(pieces, what, data)


def _without_end(pieces: Iterator[bytes], what: str, data: Readable) -> Iterator[bytes]:
    """Raises Incomplete when the rows have no end, Corrupt when more follows it than what pg_dump writes."""
    # The first byte of what is held back was given already; at the beginning it stands for one.
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
                    f"cannot read {what}: its rows do not end where they seem to, before byte {data.tell()} of the "
                    "file",
                    hint=_ANOTHER,
                )
            break
        cut = max(len(text) - len(_END) + 1, 1)
        if cut > 1:
            yield text[1:cut]
        held = text[cut - 1 :]
    raise Incomplete(
        rf'cannot read {what}: its rows have no end: the line "\." and two empty ones, before byte {data.tell()} of '
        "the file",
        hint=_CUT_OFF,
    )


def _named(entry: TocEntry, path: Path) -> str:
    """For messages."""
    return f'{entry.relation} in "{path}"'
