"""A folder with restore points, ours and foreign ones."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Generator, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lastgood.config.signing import Signing
from lastgood.dump.files import links
from lastgood.dump.files.file_set import FileSet, files_of_set, open_any
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.files.recognize import HEAD
from lastgood.errors import BadPoint, LastgoodError, continued, os_reason
from lastgood.points.manifest import SUFFIX, Manifest, has_manifest, signed_manifest_of
from lastgood.points.point import RestorePoint, TimeSource, confine_errors, pg_restore_for
from lastgood.points.signature import NOT_SIGNED

# Written by pg_dump -v in its own time zone, under the name that the C library has for it.
_STARTED_ON = re.compile(rb"^-- Started on (\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) (\S+)", re.MULTILINE)
_IN_NAME = re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)[T_.\- ]?(\d\d)[:_.\-]?(\d\d)[:_.\-]?(\d\d)(Z?)(?!\d)")
# The first command in the text of a dump: an ordinary script or a page of documentation does not begin so.
_SQL = re.compile(rb"(?:^|\n)(?:SET [a-z_]+ = |SELECT pg_catalog\.|COPY \S+ |CREATE [A-Z]+ |INSERT INTO |\\restrict )")
_HEADER = b"-- PostgreSQL database "
# File names of dumps.
_DUMP_NAME = re.compile(r"\.(?:sql|dump|backup|pgdump)(?:\.(?:gz|zst|lz4|xz|bz2))?\Z", re.IGNORECASE)
# The first bytes of archives of pg_dump: custom ones, and tar's first member.
_ARCHIVES = (b"PGDMP", b"toc.dat\0")
_COMPRESSED = (".gz", ".zst", ".lz4", ".xz", ".bz2")
_MARKS = re.compile(
    rb"(?m)^-- (?:Name|Data for Name): .*; Type: |^COPY \S.* FROM stdin;\r?$|^-- PostgreSQL database (?:cluster )?dump"
)


def list_points(store: Path) -> list[RestorePoint]:
    """The restore points in a folder, newest first: those with a manifest, and foreign ones recognized by their
    content. Only the beginning of each is read. Unfinished ones (``.….partial``), manifests and other files are left
    out. A file that is named like a dump but is damaged, or no dump, has a ``problem``. A folder with the files of a
    set (``schema.sql``, ``data.sql`` …) is one point; the store itself can be one. A missing store has none; raises
    BadPoint when the store can't be read.
    """
    try:
        entries = sorted(store.iterdir())
        together = files_of_set(store)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadPoint(
            f'cannot look for restore points in "{store}": {os_reason(error)}',
            hint="Name the folder with --store.",
        ) from error
    points = [point for point in [point_at(store)] if point is not None] if together else []
    for path in entries:
        if path not in together and not path.name.startswith(".") and not path.name.endswith((SUFFIX, ".partial")):
            point = point_at(path, within=store)
            if point is not None:
                points.append(point)
    return newest_first(points)


def newest_first(points: Iterable[RestorePoint]) -> list[RestorePoint]:
    """The order for display and choice."""
    return sorted(points, key=lambda point: (point.made_at, point.path.name), reverse=True)


def looks_like_dump(path: Path) -> bool:
    """Whether a file has a manifest, or has the name and the beginning of a dump: an archive, a compressed file, or SQL
    with the header that pg_dump writes."""
    if has_manifest(path):
        return True
    if _DUMP_NAME.search(path.name) is None:
        return False
    with path.open("rb") as file:
        head = file.read(HEAD)
    return _HEADER in head or head.startswith(_ARCHIVES) or path.suffix.lower() in _COMPRESSED


def point_at(path: Path, *, within: Path | None = None) -> RestorePoint | None:
    """The restore point at ``path``, None for any other file. Reads its beginning and its manifest only.

    ``within``: the store that contains it. A symbolic link that leads out of the store is not followed.
    """
    try:
        if within is not None and links.leads_out(path, within):
            raise links.outside(path)
        with confine_errors(path):
            return _point_at(path)
    except LastgoodError as error:
        return _damaged(path, str(error)) if _DUMP_NAME.search(path.name) else None


def _point_at(path: Path) -> RestorePoint | None:
    try:
        manifest, unsigned = signed_manifest_of(path)
    except BadPoint as error:
        # An unreadable manifest is no evidence about the dump.
        remedy = continued(error.hint, "Or choose another restore point: lastgood points") if error.hint else ""
        return _with_manifest(path, None, str(error), remedy)
    point = _with_manifest(path, manifest)
    if point is None or not unsigned or point.problem:
        return point
    if Signing.trusted:
        return replace(point, unsigned=unsigned)
    return replace(point, problem=f'cannot use "{path}": {unsigned}', remedy=NOT_SIGNED)


def _with_manifest(path: Path, manifest: Manifest | None, problem: str = "", remedy: str = "") -> RestorePoint | None:
    with_manifest = has_manifest(path)
    try:
        source = open_any(path, pg_restore=pg_restore_for)
        head = _head(source)
    except LastgoodError as error:
        if manifest is None:
            return _damaged(path, str(error)) if _DUMP_NAME.search(path.name) else None
        # A point of ours that is no longer a valid dump must be listed, not skipped.
        return RestorePoint(path, manifest.made_at, "manifest", _size(path), manifest, str(error))
    if manifest is not None:
        if source.size != manifest.size:
            problem = f'cannot use "{path}": it has {source.size} bytes, but had {manifest.size} when it was made'
        return RestorePoint(path, manifest.made_at, "manifest", source.size, manifest, problem)
    if source.kind == "plain" and not with_manifest and _HEADER not in head and not _SQL.search(head):
        whole = _head(source, 1 << 18) + _tail(path)
        if not _DUMP_NAME.search(path.name) or _MARKS.search(whole) is None:
            return None
        return _damaged(path, f'cannot use "{path}": it does not begin like a dump')
    moment, source_of_time = made_at(source, head)
    point = RestorePoint(path, moment, source_of_time, source.size, None, problem)
    return replace(point, remedy=remedy) if remedy else point


def _damaged(path: Path, problem: str) -> RestorePoint | None:
    """The damaged point; None where the path is no file, or was removed meanwhile."""
    try:
        if path.is_symlink() or not path.is_file():
            return _linked(path, problem) if path.is_symlink() else None
        moment, source_of_time = time_by_name_or_file(path.name, path)
        return RestorePoint(path, moment, source_of_time, path.stat().st_size, None, problem)
    except (OSError, OverflowError, ValueError):
        return None


def _linked(path: Path, problem: str) -> RestorePoint:
    """The point for a symbolic link, without following it."""
    status = path.lstat()
    moment = datetime.fromtimestamp(status.st_mtime).astimezone()
    return RestorePoint(path, moment, "file time", status.st_size, None, problem)


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        return file.read()


def _head(source: DumpSource, size: int = HEAD) -> bytes:
    """The beginning of a plain dump's text, or of an archive's bytes."""
    if source.kind == "set":
        return b""
    if source.kind == "plain":
        chunks = source.chunks()
        try:
            return next(chunks, b"")[:size]
        finally:
            # Close the file now: an abandoned generator does so only when it is garbage collected.
            if isinstance(chunks, Generator):
                chunks.close()
    if source.compression:
        return b""
    file = source.path / "toc.dat" if source.kind == "directory" else source.path
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    # A tar's first member is its table of contents.
    return head[512:] if head.startswith(b"toc.dat\0") else head


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path]))


def made_at(source: DumpSource, head: bytes) -> tuple[datetime, TimeSource]:
    """The time and its source, best evidence first. ``head`` is the beginning of the dump: of its text, or of the
    archive's bytes. A time without a zone counts as this machine's local time, because scripts on it wrote it.
    """
    started = _STARTED_ON.search(head)
    if started is not None:
        time = _in_utc([int(part) for part in started.groups()[:6]], started[7].decode("ascii", "replace"))
        if time is not None:
            return time, "header"
    if source.kind not in ("plain", "set"):
        created = _archive_time(head)
        if created is not None:
            return created, "archive"
    return time_by_name_or_file(source.path.name, _dated_file(source))


def time_by_name_or_file(name: str, file: Path) -> tuple[datetime, TimeSource]:
    """The time in a name, or else the file's time."""
    match = _IN_NAME.search(name)
    if match is not None:
        time = _in_utc([int(part) for part in match.groups()[:6]], "UTC" if match[7] else "")
        if time is not None:
            return time, "name"
    return datetime.fromtimestamp(file.stat().st_mtime, UTC), "file time"


def _in_utc(parts: list[int], zone: str) -> datetime | None:
    """None for a day that does not exist, and for a zone that is neither UTC nor this machine's own."""
    try:
        if zone in ("UTC", "GMT", "Z"):
            return datetime(*parts).replace(tzinfo=UTC)  # type: ignore[arg-type]  # six integers
        if zone and zone not in time.tzname:
            return None
        return datetime(*parts).astimezone(UTC)  # type: ignore[arg-type]  # six integers
    except (ValueError, OverflowError):
        return None


def _archive_time(head: bytes) -> datetime | None:
    """The time in an archive's header (pg_backup_archiver.c, ``ReadHead``): local time where it was made."""
    if not head.startswith(b"PGDMP") or len(head) < 64 or head[7:9] is None:
        return None
    version, width = head[5:7], head[8]
    if width != 4:
        return None
    start = 11 + (1 if version >= bytes([1, 15]) else 1 + width)
    fields = []
    for number in range(6):
        sign, value = struct.unpack_from("<BI", head, start + number * (1 + width))
        fields.append(-value if sign else value)
    second, minute, hour, day, month, year = fields
    return _in_utc([year + 1900, month + 1, day, hour, minute, second], "")


def _dated_file(source: DumpSource) -> Path:
    if isinstance(source, FileSet):
        return source.sources[-1].path  # the file with the rows, which decides what is restored
    return source.path / "toc.dat" if source.kind == "directory" else source.path
