"""Recognition of files from their first bytes: names are unreliable (a ``.sql`` may be compressed, a ``.dump`` may be
plain)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from lastgood.errors import BadPoint, Incomplete

Kind = Literal["plain", "custom", "directory", "tar", "set"]
ArchiveCompression = Literal["", "gzip", "lz4", "zstd"]

HEAD = 1 << 12
"""The number of first bytes that suffices for all functions here."""

TAR_BLOCK = 512
_FILL = 1 << 18
_CUSTOM, _TAR, _DIRECTORY = 1, 3, 5
_ALGORITHMS: tuple[ArchiveCompression, ...] = ("", "gzip", "lz4", "zstd")

# Other files that are named like a dump, and hints.
_OTHERS: tuple[tuple[re.Pattern[bytes], str, str], ...] = tuple(
    (re.compile(pattern), what, hint)
    for pattern, what, hint in (
        (rb"\x02\x21\x4c\x18", "lz4 data in the legacy format", 'Decompress it with "lz4 -d" and use the result.'),
        (rb"PK\x03\x04", "a zip file", 'Extract the dump with "unzip" and use that.'),
        (rb"7z\xbc\xaf\x27\x1c", "a 7-Zip file", 'Extract the dump with "7z x" and use that.'),
        (rb"Rar!\x1a\x07", "a RAR file", "Extract the dump and use that."),
        (
            rb"\x1f[\x9d\xa0]",
            "data of the program compress",
            'Decompress it with "uncompress" and use the result.',
        ),
        (rb"age-encryption\.org/v1|-----BEGIN AGE ENCRYPTED FILE", "encrypted with age", "Decrypt it first."),
        (rb"-----BEGIN PGP MESSAGE|[\x84\x85\x8c]..?[\x03\x04]", "encrypted with PGP", "Decrypt it first."),
        (rb"Salted__", "encrypted with OpenSSL", "Decrypt it first."),
        (rb"version https://git-lfs", "a Git LFS pointer, not the file itself", 'Run "git lfs pull" in its folder.'),
        (rb"(?i:\s*<(?:!doctype|html))", "a web page", "Download the dump again: this may be a login or error page."),
        (rb"\s*<\?xml|\s*<Error>", "an XML document", "Download the dump again: this may be a store's error message."),
        (rb"\s*\{\s*\"", "a JSON document", "Download the dump again: this may be a store's error message."),
        (rb"SQLite format 3\x00", "an SQLite database", ""),
        (rb"\x89PNG\r\n|GIF8|\xff\xd8\xff", "a picture", ""),
        (rb"%PDF-", "a PDF document", ""),
        (rb"\x7fELF|MZ\x90|\xcf\xfa\xed\xfe", "a program", ""),
    )
)
_CONTROLS = frozenset(range(1, 32)) - frozenset(b"\t\n\v\f\r\x1b")


@dataclass(frozen=True, slots=True)
class Archive:
    """The header of an archive of pg_dump. ``compression`` is that of the data inside."""

    kind: Kind
    version: tuple[int, int, int]
    compression: ArchiveCompression


def archive(head: bytes) -> Archive | None:
    """The archive that begins with ``head``; None for other data, and if it is truncated within its header.

    The format is that of pg_backup_archiver.c, ``ReadHead``. A tar has it in its first member, toc.dat; the toc.dat of
    a directory declares the format tar.
    """
    kind: Kind = "directory"
    if is_tar(head) and head.startswith(b"toc.dat\0"):
        kind = "tar"
        head = head[TAR_BLOCK:]
    if not head.startswith(b"PGDMP") or len(head) < 16 or head[10] not in (_CUSTOM, _TAR, _DIRECTORY):
        return None
    if head[10] == _CUSTOM:
        kind = "custom"
    version = (head[5], head[6], head[7])
    if version >= (1, 15, 0):
        compression = _ALGORITHMS[head[11]] if head[11] < len(_ALGORITHMS) else ""
    else:
        # Until version 1.14 a level: a sign, and as many bytes as the header declares.
        (level,) = struct.unpack_from("<I", head, 12)
        compression = "gzip" if level else ""
    return Archive(kind, version, compression)


def is_tar(head: bytes) -> bool:
    """Whether the file is a tar, of pg_dump or any other program."""
    return head[257:262] == b"ustar"


def tar_members(head: bytes) -> list[bytes]:
    """The names of the members of a tar whose headers are in ``head``; at least the first one."""
    names = []
    at = 0
    while at + TAR_BLOCK <= len(head) and is_tar(head[at : at + TAR_BLOCK]):
        names.append(head[at : at + 100].rstrip(b"\0"))
        at += TAR_BLOCK + padded(tar_size(head[at : at + TAR_BLOCK]))
    return names


def whole_tar(content: Iterable[bytes], name: str, damage: list[BadPoint] | None = None) -> Iterator[bytes]:
    """The same bytes. Raises Incomplete when they end inside a member: pg_restore (15 to 18) would hang. With
    ``damage``, the member is padded with NUL bytes, the archive is ended, and the error is added there.
    """
    header = b""
    member = ""
    remaining = 0  # of the member's data
    for piece in content:
        at = 0
        while at < len(piece):
            if remaining:
                step = min(remaining, len(piece) - at)
                remaining -= step
            else:
                step = min(TAR_BLOCK - len(header), len(piece) - at)
                header += piece[at : at + step]
                if len(header) == TAR_BLOCK:
                    member = header[:100].rstrip(b"\0").decode("utf-8", "backslashreplace")
                    remaining = padded(tar_size(header)) if is_tar(header) else 0
                    header = b""
            at += step
        yield piece
    if remaining or header:
        place = f'its member "{member}"' if remaining else "the header of a member"
        error = Incomplete(
            f'cannot read "{name}": the tar archive ends inside {place}',
            hint="The file is truncated, or pg_dump was interrupted: choose another restore point.",
        )
        if damage is None:
            raise error
        damage.append(error)
        remaining += (TAR_BLOCK - len(header)) % TAR_BLOCK + 2 * TAR_BLOCK
        for at in range(0, remaining, _FILL):
            yield bytes(min(_FILL, remaining - at))


def tar_size(header: bytes) -> int:
    """The size of a member's data; 0 if its header has none."""
    field = header[124:136]
    if field[0] & 0x80:
        return int.from_bytes(field[1:], "big")  # of 8 GB and more
    digits = field.strip(b"\0 ")
    return int(digits, 8) if re.fullmatch(rb"[0-7]+", digits) else 0


def padded(size: int) -> int:
    """The space of data of that size in a tar: whole blocks."""
    return -(-size // TAR_BLOCK) * TAR_BLOCK


# One of them is in the shortest dump, cut as it may be: of pg_dump the header, of other programs a command.
_SIGNS_OF_SQL = (b";", b"--", b"COPY ", b"SET ", b"CREATE ", b"INSERT ", b"\\")


def other_content(head: bytes, *, compressed: bool = False) -> tuple[str, str] | None:
    """The description of a file that is no dump (``a web page``), and a hint; None if it may be a plain dump.

    The lexer reports a stray NUL byte in text. Of ``compressed`` data, a short head is no evidence: where the data are
    cut, the decompressor reports that.
    """
    for pattern, what, hint in _OTHERS:
        if pattern.match(head):
            return what, hint
    if not any(head):
        return "nothing but NUL bytes", "Choose another restore point: its content was never written, or is lost."
    ascii_pairs = not any(head[1:64:2]) or not any(head[:64:2])
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or (ascii_pairs and len(head) > 1):
        return "UTF-16 text, as PowerShell's > writes it", 'Convert a copy with "iconv -f UTF-16 -t UTF-8".'
    # Text with a stray NUL does not have so many different control characters.
    if 0 in head and len(_CONTROLS.intersection(head)) >= 8:
        return "binary data of an unknown kind", ""
    if not compressed and head.strip() and len(head) < HEAD and not any(sign in head for sign in _SIGNS_OF_SQL):
        return "text without a command of SQL", ""
    return None
