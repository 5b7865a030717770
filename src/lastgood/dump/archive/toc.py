"""The table of contents of pg_dump's archives, with the positions of each table's rows.

The format is that of PostgreSQL's pg_backup_archiver.c (``ReadHead``, ``ReadToc``) and, for the end of each entry,
pg_backup_custom.c, pg_backup_directory.c and pg_backup_tar.c (``_ReadExtraToc``). It is untrusted: each length is
checked against the file's size, and unneeded data is not kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from lastgood.dump.hints import ANOTHER, CUT_OFF
from lastgood.dump.names import Relation, shown
from lastgood.errors import BadPoint, Corrupt, Incomplete

VERSIONS = ((1, 14), (1, 15), (1, 16))
"""The supported archive versions: those of pg_dump 12 to 15, 16, and 17 and 18."""

OLDER = ((1, 12), (1, 13))
"""Those of pg_dump 9.1 to 11, without table access methods: only for ``lists_and_files``."""

TABLE_DATA, LARGE_OBJECTS = b"TABLE DATA", b"BLOBS"
"""The types of entries with data."""

INTEGER = 5
"""The size of an integer in bytes: a sign, and four bytes, the lowest first."""

# A COPY command names at most 1600 columns of 63 bytes; the longest tag is a function's, with 100 arguments.
_LONGEST = 1 << 20
_CUSTOM, _TAR = 1, 3
_NOT_SET, _SET, _NO_DATA = 1, 2, 3


@dataclass(frozen=True, slots=True)
class TocEntry:
    """An entry with data.

    ``copy`` is the command before the rows, as in the archive; empty for INSERT commands. ``offset`` is the start of
    the data in a custom archive, None if pg_dump could not seek back to record it. ``file`` is the file or member in a
    directory or tar, without a suffix for compression.
    """

    dump_id: int
    desc: bytes
    tag: bytes
    namespace: bytes
    copy: bytes
    offset: int | None
    file: str

    @property
    def relation(self) -> str:
        """The table's name for messages."""
        schema, name = (part.decode("utf-8", "backslashreplace") for part in (self.namespace, self.tag))
        return shown(Relation(schema, name))


def entries_with_data(file: BinaryIO, name: str, end: int) -> Iterator[TocEntry]:
    """The entries with data, in their order, of the table of contents that begins at the position of ``file``.

    ``end`` is the latest possible end of it in the file, ``name`` is for messages. Raises Incomplete, Corrupt, or
    BadPoint for unsupported versions.
    """
    contents = _Contents(file, name, end)
    contents.read_header()
    for _ in range(contents.integer()):
        entry = contents.entry()
        if entry is not None:
            yield entry
    contents.check_end()


def lists_and_files(file: BinaryIO, name: str, end: int) -> tuple[list[str], list[str]]:
    """The names that the table of contents of a directory archive gives to lists of large objects, and to files with
    data, also in ``OLDER`` versions. Raises as ``entries_with_data`` does."""
    lists: list[str] = []
    files: list[str] = []
    contents = _Contents(file, name, end, (*OLDER, *VERSIONS))
    contents.read_header()
    for _ in range(contents.integer()):
        entry = contents.entry()
        if entry is not None:
            (lists if entry.desc == LARGE_OBJECTS else files).append(entry.file)
    return lists, files


class _Contents:
    def __init__(self, file: BinaryIO, name: str, end: int, versions: tuple[tuple[int, int], ...] = VERSIONS) -> None:
        self._versions = versions
        self._file = file
        self._name = name
        self._end = end
        self._version = (0, 0)
        self._offset_bytes = 0
        self._custom = False

    def read_header(self) -> None:
        if self._bytes(5) != b"PGDMP":
            raise self._corrupt("it does not begin with PGDMP")
        major, minor, _, integer_bytes, self._offset_bytes, form = self._bytes(6)
        self._version = (major, minor)
        if self._version not in self._versions:
            raise BadPoint(
                f'cannot read "{self._name}": archive version {major}.{minor} is not supported',
                hint=ANOTHER,
            )
        if integer_bytes != INTEGER - 1 or self._offset_bytes not in (4, 8) or form not in (_CUSTOM, _TAR):
            raise self._corrupt("its header is not one that pg_dump writes")
        self._custom = form == _CUSTOM
        if self._version >= (1, 15):
            self._bytes(1)  # the compression of the data
        else:
            self.integer()
        for _ in range(7):  # the time of the dump
            self.integer()
        for _ in range(3):  # the database, the server's version, pg_dump's version
            self._skip()

    def entry(self) -> TocEntry | None:
        """Read the next entry; None if it has no data."""
        dump_id = self.integer()
        if dump_id <= 0:
            raise self._corrupt(f"an entry has the number {dump_id}")
        has_data = self.integer()
        self._skip()  # the object's class and OID
        self._skip()
        tag = self._text()
        desc = self._text()
        section = self.integer()
        if has_data not in (0, 1) or not 1 <= section <= 4:
            raise self._corrupt(f"entry {dump_id} is not one that pg_dump writes")
        self._skip()  # the commands that create and drop it
        self._skip()
        copy = self._text()
        namespace = self._text()
        self._skip()  # tablespace
        if self._version >= (1, 14):
            self._skip()  # table access method
        if self._version >= (1, 16):
            self.integer()  # relkind
        self._skip()  # owner
        self._skip()  # formerly WITH OIDS
        while self._skip():  # its dependencies
            pass
        state, offset = self._offset() if self._custom else (_SET, None)
        file = b"" if self._custom else self._text()
        if bool(has_data) != (state != _NO_DATA if self._custom else bool(file)):
            raise self._corrupt(f"entry {dump_id} is inconsistent about whether it has data")
        if not has_data:
            return None
        if file and desc == TABLE_DATA and file != b"%d.dat" % dump_id:
            raise self._corrupt(f"entry {dump_id} does not have its data in {dump_id}.dat")
        return TocEntry(dump_id, desc, tag, namespace, copy, offset, file.decode("ascii", "backslashreplace"))

    def check_end(self) -> None:
        """Check that nothing follows the last entry, if the table of contents is a file or member of its own."""
        if not self._custom and self._file.tell() != self._end:
            raise self._corrupt("other data follows its last entry")

    def integer(self) -> int:
        """``ReadInt``."""
        data = self._bytes(INTEGER)
        value = int.from_bytes(data[1:], "little")
        return -value if data[0] else value

    def _text(self) -> bytes:
        """``ReadStr``; empty for NULL, too."""
        length = self._length()
        if length > _LONGEST:
            raise self._corrupt(f"it has a name or COPY command of {length} bytes")
        return self._bytes(max(length, 0))

    def _skip(self) -> bool:
        """Skip a text; False if it is ``NULL``."""
        length = self._length()
        if length > _LONGEST:
            self._file.seek(length, os.SEEK_CUR)
        else:
            self._file.read(max(length, 0))
        return length >= 0

    def _length(self) -> int:
        length = self.integer()
        if length > self._end - self._file.tell():
            raise self._incomplete()
        return length

    def _offset(self) -> tuple[int, int | None]:
        """``ReadOffset``."""
        state, *data = self._bytes(1 + self._offset_bytes)
        if state not in (_NOT_SET, _SET, _NO_DATA):
            raise self._corrupt("an entry has an unknown state of its data position")
        return state, int.from_bytes(data, "little") if state == _SET else None

    def _bytes(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count or self._file.tell() > self._end:
            raise self._incomplete()
        return data

    def _incomplete(self) -> Incomplete:
        return Incomplete(f'cannot read "{self._name}": it ends within its table of contents', hint=CUT_OFF)

    def _corrupt(self, why: str) -> Corrupt:
        return Corrupt(
            f'cannot read "{self._name}": its table of contents is damaged before byte {self._file.tell()}: {why}',
            hint=ANOTHER,
        )
