"""Dumps of every format and compression, recognized by content, as a stream of plain SQL."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from lastgood.dump.archive import directory
from lastgood.dump.archive.toc import VERSIONS
from lastgood.dump.files import links, makers, recognize
from lastgood.dump.files.decompress import READ, Compression, compression_of, decompressed, may_become_compressed
from lastgood.dump.files.recognize import HEAD, ArchiveCompression, Kind
from lastgood.dump.files.row_index import PendingDigest, RowIndex, RowSpan
from lastgood.dump.hints import ANOTHER, CUT_OFF
from lastgood.errors import BadPoint, Corrupt, Foreign, Incomplete, Refused, os_reason
from lastgood.process import run

PgRestore = Callable[[tuple[int, int, int]], Path]
"""A function that finds a pg_restore for an archive version: 1.14 is PostgreSQL 15's, 1.15 is 16's, 1.16 is 17's and
18's. May raise Refused when none is installed."""

# The number of bytes to hash at a time.
HASHED = 1 << 20

# pg_restore loops endlessly on some damaged data (15 to 18: compressed data that ends before its block does).
STUCK_SECONDS = 10.0
# Messages of pg_restore for a truncated file (pg_backup_*.c, compress_*.c); in English, as we run it.
_ENDS_EARLY = ("end of file", "could not read from input file", "short tar header", "no such file or directory")


class DumpSource:
    """A dump on disk, created by ``open_dump``; it keeps no file open between calls.

    ``kind`` is ``plain``, ``custom``, ``directory``, ``tar`` or ``set`` (of several files: ``FileSet``);
    ``compression`` is that of the file as a whole (``""``, ``gzip``, ``zstd``, ``lz4``, ``xz``, ``bzip2``),
    ``archive_compression`` that of the data inside an archive (``""``, ``gzip``, ``lz4``, ``zstd``), which pg_restore
    must support. ``archive_version`` is None for plain dumps. ``size`` is in bytes on disk; for a directory, the sum of
    its files.
    """

    def __init__(
        self,
        path: Path,
        kind: Kind,
        compression: Compression,
        archive: recognize.Archive | None,
        pg_restore: PgRestore | None,
    ) -> None:
        self.path = path
        self.kind = kind
        self.compression = compression
        self.archive_version = archive.version if archive is not None else None
        self.archive_compression: ArchiveCompression = archive.compression if archive is not None else ""
        self.size = sum(size for _, size, _, _ in self.fingerprint())
        self._pg_restore = pg_restore
        self._notes: list[str] = []
        self._position: Callable[[], int] = lambda: 0
        self.row_index: RowIndex | None = None
        self.pending_digest: PendingDigest | None = None

    def skip_rows(self, spans: Iterable[RowSpan], owed: PendingDigest) -> None:
        """Let further reads skip these rows; the loaded file must still be compared with what is ``pending_digest``."""
        self.row_index = RowIndex({span.begin: span for span in spans if span.size}, self._text_from)
        self.pending_digest = owed

    def _text_from(self, offset: int) -> Iterator[bytes]:
        with explained(self.path), self.path.open("rb", buffering=0) as file:
            file.seek(offset)
            yield from iter(lambda: file.read(READ), b"")

    @property
    def position(self) -> int:
        """The number of bytes of the file on disk that the latest ``chunks()`` has read, from 0 to ``size``.

        For a directory archive only the end is known: 0, then ``size``. Thread-safe.
        """
        return self._position()

    @property
    def notes(self) -> tuple[str, ...]:
        """Non-fatal anomalies in the latest ``chunks()`` so far, in sentences without a full stop."""
        return tuple(self._notes)

    def fingerprint(self) -> tuple[tuple[str, int, int, int], ...]:
        """Name, size, modification time in ns and inode of each file: equal unless a file was changed meanwhile.

        Raises BadPoint when the dump is gone.
        """
        with explained(self.path):
            return tuple(
                (name, status.st_size, status.st_mtime_ns, status.st_ino)
                for name, file in self._files()
                for status in [file.stat()]
            )

    def sha256(self, cancelled: Callable[[], bool] = lambda: False) -> str:
        """The SHA-256 of the file as 64 hex digits; for a directory, of its sorted lines ``name NUL digest LF``.

        Empty once ``cancelled`` turned true. Raises BadPoint when it can't be read.
        """
        with explained(self.path):
            if self.kind != "directory":
                return _sha256(self.path, cancelled)
            digest = hashlib.sha256()
            for name, file in self._files():
                digest.update(os.fsencode(name) + b"\0" + _sha256(file, cancelled).encode() + b"\n")
            return "" if cancelled() else digest.hexdigest()

    def chunks(self, *options: str, damage: list[BadPoint] | None = None) -> Iterator[bytes]:
        r"""The dump as plain SQL, from its beginning at each call, in portions of up to about 256 KiB.

        Archives go through pg_restore, which generates a new key for ``\restrict`` each time. Raises Incomplete or
        Corrupt if the dump is truncated or damaged, BadPoint when it can't be read, and Refused when no pg_restore for
        it is installed. ``options`` are for pg_restore. With ``damage``, all readable text is yielded, and errors are
        added to that list instead of being raised.
        """
        self._notes.clear()
        with explained(self.path):
            if self.kind == "directory":
                self._position = lambda: 0
                directory.check_names(self.path)
                if damage is None:
                    directory.check_whole(self.path)
                yield from self._restored([*options, self.path], subprocess.DEVNULL)
            else:
                yield from self._file_chunks(options, damage)
        # Padding at the end of a tar, and other data that pg_restore did not need, counts as read.
        self._position = lambda: self.size

    def _file_chunks(self, options: Sequence[str], damage: list[BadPoint] | None) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            last = 0

            def position() -> int:
                try:
                    return min(os.lseek(file.fileno(), 0, os.SEEK_CUR), self.size)
                except (ValueError, OSError):
                    return last  # called from another thread after the file was closed

            self._position = position
            try:
                content: Iterator[bytes] = iter(lambda: file.read(READ), b"")
                if self.compression:
                    content = decompressed(
                        file, self.compression, f'"{self.path}"', self._notes.append, fine=damage is not None
                    )
                    if damage is not None:
                        content = _until_the_damage(content, damage)
                if self.kind == "plain":
                    yield from content
                elif self.kind == "tar":
                    yield from self._restored(options, recognize.whole_tar(content, str(self.path), damage))
                elif self.compression:
                    yield from self._restored(options, content)
                else:
                    # pg_restore gets a seekable file, and shares its position with us.
                    yield from self._restored(options, file.fileno())
            except (Corrupt, Incomplete) as error:
                _blame_transfer(error, self.path)
                raise
            finally:
                last = position()

    def _restored(self, arguments: Sequence[str | Path], stdin: int | Iterator[bytes]) -> Iterator[bytes]:
        """The output of pg_restore for the archive."""
        assert self.archive_version is not None
        if self._pg_restore is None:
            raise Refused(
                f'cannot read "{self.path}": it is an archive, and pg_restore is not available',
                hint="Install PostgreSQL's client programs.",
            )
        program = self._program(self._pg_restore)
        try:
            with ExitStack() as stack:
                try:
                    output = stack.enter_context(
                        run.stream([program, "--file=-", *arguments], stdin=stdin, stuck_seconds=STUCK_SECONDS)
                    )
                except OSError as error:
                    raise Refused(
                        f'cannot run "{program}": {os_reason(error)}',
                        hint="Install PostgreSQL's client programs again.",
                    ) from error
                yield from output
        except run.ChildFailed as error:
            raise self._explain(error) from error

    def _program(self, pg_restore: PgRestore) -> Path:
        assert self.archive_version is not None
        try:
            return pg_restore(self.archive_version)
        except Refused as error:
            if self.archive_version[:2] <= VERSIONS[-1]:
                raise
            # Newer than every known pg_dump, or a damaged header: the error is about this file only.
            raise BadPoint(error.message, hint=error.hint) from error

    def _explain(self, error: run.ChildFailed) -> BadPoint:
        if error.status is None:
            return Corrupt(
                f'cannot read "{self.path}": pg_restore made no progress for {STUCK_SECONDS:g} s',
                hint=ANOTHER,
            )
        lines = error.tail.strip().splitlines()
        reason = lines[-1].removeprefix("pg_restore: ").removeprefix("error: ") if lines else f"status {error.status}"
        if not lines and error.status is not None and error.status < 0:
            reason = f"it crashed (signal {-error.status})"
        message = f'cannot read "{self.path}": pg_restore failed: {reason}'
        if "unsupported version" in reason or "does not support compression" in reason:
            return BadPoint(message, hint="Install the client programs of the PostgreSQL version that made the dump.")
        if any(words in reason.lower() for words in _ENDS_EARLY):
            return Incomplete(message, hint=CUT_OFF)
        return Corrupt(message, hint=ANOTHER)

    def _files(self) -> list[tuple[str, Path]]:
        if self.kind != "directory":
            return [(self.path.name, self.path)]
        return sorted((file.name, file) for file in self.path.iterdir() if file.is_file())


def open_dump(path: Path, *, pg_restore: PgRestore | None = None) -> DumpSource:
    """The dump at ``path``, recognized by its content and not by its name; only its beginning is read.

    ``pg_restore`` is called when an archive is read. Raises BadPoint (Incomplete, Corrupt) for any other path, and
    names what it is: missing, an empty file, a web page, an encrypted file …
    """
    with explained(path):
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _open_directory(path, pg_restore)
        if not stat.S_ISREG(mode):
            raise BadPoint(
                f'cannot use "{path}": it is neither a file nor a folder',
                hint="A dump is read more than once: store it in a file first.",
            )
        with path.open("rb") as file:
            head = file.read(HEAD)
            if not head:
                raise Incomplete(
                    f'cannot use "{path}": it is empty', hint="pg_dump failed or was interrupted: choose another one."
                )
            compression = compression_of(head)
            if compression:
                file.seek(0)
                head = _decompressed_head(file, compression, path)
    archive = recognize.archive(head)
    if archive is not None and archive.kind == "directory":
        raise BadPoint(
            f'cannot use "{path}": it is only the table of contents of a directory archive',
            hint=f'Name the folder: "{path.parent}".',
        )
    if archive is not None:
        return DumpSource(path, archive.kind, compression, archive, pg_restore)
    _refuse_others(path, head, compression)
    return DumpSource(path, "plain", compression, None, pg_restore)


def _open_directory(path: Path, pg_restore: PgRestore | None) -> DumpSource:
    for member in path.iterdir():
        if member.is_symlink() and links.leads_out(member, path.parent):
            raise links.outside(member)
    contents = path / "toc.dat"
    if not contents.is_file():
        raise BadPoint(
            f'cannot use "{path}": it is a folder without a toc.dat, so not a directory archive of pg_dump',
            hint=f'Name one of its dumps; lastgood points "{path}" lists them.',
        )
    with contents.open("rb") as file:
        archive = recognize.archive(file.read(HEAD))
    if archive is None:
        raise Corrupt(f'cannot read "{path}": its toc.dat is not a table of contents of pg_dump', hint=ANOTHER)
    return DumpSource(path, "directory", "", archive, pg_restore)


def _decompressed_head(file: BinaryIO, compression: Compression, path: Path) -> bytes:
    head = b""
    try:
        for piece in decompressed(file, compression, f'"{path}"', lambda _: None):
            head += piece
            if len(head) >= HEAD:
                break
    except (Corrupt, Incomplete) as error:
        # Otherwise a complete read will report it, with the place.
        if not head:
            _blame_transfer(error, path)
            raise
    if not head:
        raise Incomplete(
            f'cannot use "{path}": the {compression} data is empty',
            hint="pg_dump failed while its output was compressed: choose another restore point.",
        )
    return head[:HEAD]


def _refuse_others(path: Path, head: bytes, compression: Compression) -> None:
    """Raise BadPoint for content that is neither an archive nor possibly a plain dump."""
    within = f"{compression} data of " if compression else ""
    if head.startswith((b"PGDMP", b"toc.dat\0")):
        raise Incomplete(f'cannot use "{path}": it is {within}an archive that ends within its header', hint=CUT_OFF)
    if len(head) < 6 and not compression and may_become_compressed(head):
        raise Incomplete(f'cannot use "{path}": it ends after {len(head)} bytes', hint=CUT_OFF)
    if compression and (twice := compression_of(head)):
        raise BadPoint(
            f'cannot use "{path}": it is compressed twice, with {twice} and then with {compression}',
            hint=f"Decompress it once ({compression}), and use the result.",
        )
    if recognize.is_tar(head):
        names = recognize.tar_members(head)
        if any(name.endswith(b"/toc.dat") for name in names):
            hint = "It seems to hold a directory archive: unpack it with tar, and name the folder."
        elif any(name.rpartition(b"/")[2] in (b"backup_label", b"PG_VERSION", b"base") for name in names):
            hint = "It seems to be a physical backup, which is restored with a server of its own, not from a dump."
        else:
            hint = "If it contains a dump, unpack it with tar and name the dump."
        raise BadPoint(f'cannot use "{path}": it is {within}a tar file that pg_dump did not write', hint=hint)
    if server := makers.other_server(head):
        raise Foreign(f'cannot use "{path}": it is {within}a dump of {server}, not of PostgreSQL', hint=ANOTHER)
    other = recognize.other_content(head, compressed=bool(compression))
    if other is not None:
        what, hint = other
        raise Corrupt(f'cannot use "{path}": it is {within}{what}, not a dump', hint=hint or ANOTHER)


def _until_the_damage(content: Iterator[bytes], damage: list[BadPoint]) -> Iterator[bytes]:
    try:
        yield from content
    except (Corrupt, Incomplete) as error:
        damage.append(error)


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an OSError into a BadPoint with the reason."""
    try:
        yield
    except FileNotFoundError as error:
        raise BadPoint(
            f'cannot find "{path}": there is no such file', hint="List the restore points: lastgood points"
        ) from error
    except OSError as error:
        reason = os_reason(error)
        raise BadPoint(
            f'cannot read "{path}": {reason}', hint="Fix the cause, or choose another restore point."
        ) from error


def _sha256(path: Path, cancelled: Callable[[], bool]) -> str:
    digest = hashlib.sha256()
    block = bytearray(HASHED)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(block):
            digest.update(memoryview(block)[:size])
            if cancelled():
                return ""
    return digest.hexdigest()


def _blame_transfer(error: BadPoint, path: Path) -> None:
    """Raise Corrupt for an archive or compressed data that cannot be read, if each LF of the file follows a CR.

    In binary data of some length this is no coincidence. Plain text raises no such error.
    """
    line_feeds = pairs = 0
    before = b""
    with path.open("rb", buffering=0) as file:
        while line_feeds == pairs and (data := file.read(READ)):
            line_feeds += data.count(b"\n")
            pairs += (before + data).count(b"\r\n")
            before = data[-1:]
    if 0 < line_feeds == pairs:
        raise Corrupt(
            error.message,
            hint="Every LF in the file follows a CR: it went through a terminal or a transfer in text mode. "
            'Make it again without "docker exec -t", or remove each CR before an LF in a copy.',
        ) from error
