"""The time at which a foreign dump was made: from its header, its archive's contents, its name or its file time.

The line ``Dumped from database version`` is never used: it has the server's version, not a time.
"""

from __future__ import annotations

import re
import struct
import time
from datetime import UTC, datetime
from pathlib import Path

from lastgood.dump.file_set import FileSet
from lastgood.dump.formats import DumpSource
from lastgood.points.point import TimeSource

# Written by pg_dump -v in its own time zone, under the name that the C library has for it.
_STARTED_ON = re.compile(rb"^-- Started on (\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) (\S+)", re.MULTILINE)
_IN_NAME = re.compile(r"(?<!\d)(20\d\d)-?(\d\d)-?(\d\d)[T_.\- ]?(\d\d)[:_.\-]?(\d\d)[:_.\-]?(\d\d)(Z?)(?!\d)")


def made_at(source: DumpSource, head: bytes) -> tuple[datetime, TimeSource]:
    """The time and its source, best evidence first. ``head`` is the beginning of the dump: of its text, or of the
    archive's bytes. A time without a zone counts as this machine's local time, because scripts on it wrote it.
    """
    started = _STARTED_ON.search(head)
    if started is not None:
        found = _zoned([int(part) for part in started.groups()[:6]], started[7].decode("ascii", "replace"))
        if found is not None:
            return found, "header"
    if source.kind not in ("plain", "set"):
        created = _created(head)
        if created is not None:
            return created, "archive"
    return named_or_written(source.path.name, _file(source))


def named_or_written(name: str, file: Path) -> tuple[datetime, TimeSource]:
    """The time in a name, or else the file's time."""
    named = _IN_NAME.search(name)
    if named is not None:
        found = _zoned([int(part) for part in named.groups()[:6]], "UTC" if named[7] else "")
        if found is not None:
            return found, "name"
    return datetime.fromtimestamp(file.stat().st_mtime, UTC), "file time"


def _zoned(parts: list[int], zone: str) -> datetime | None:
    """None for a day that does not exist, and for a zone that is neither UTC nor this machine's own."""
    try:
        if zone in ("UTC", "GMT", "Z"):
            return datetime(*parts).replace(tzinfo=UTC)  # type: ignore[arg-type]  # six integers
        if zone and zone not in time.tzname:
            return None
        return datetime(*parts).astimezone(UTC)  # type: ignore[arg-type]  # six integers
    except (ValueError, OverflowError):
        return None


def _created(head: bytes) -> datetime | None:
    """The time in an archive's header (pg_backup_archiver.c, ``ReadHead``): local time where it was made."""
    if not head.startswith(b"PGDMP") or len(head) < 64 or head[7:9] is None:
        return None
    version, width = head[5:7], head[8]
    if width != 4:
        return None
    at = 11 + (1 if version >= bytes([1, 15]) else 1 + width)
    fields = []
    for number in range(6):
        sign, value = struct.unpack_from("<BI", head, at + number * (1 + width))
        fields.append(-value if sign else value)
    second, minute, hour, day, month, year = fields
    return _zoned([year + 1900, month + 1, day, hour, minute, second], "")


def _file(source: DumpSource) -> Path:
    if isinstance(source, FileSet):
        return source.sources[-1].path  # the file with the rows, which decides what is restored
    return source.path / "toc.dat" if source.kind == "directory" else source.path
