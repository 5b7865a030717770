"""What is written to the write-ahead log, who has yet to read it, and how much room is left for it; at one moment.

A server keeps each piece of WAL until the archive, every replication slot and a checkpoint are done with it. When its
disk is full the whole server stops, production with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastgood.postgres.machine import is_here
from lastgood.postgres.server import Connection

WAL_DISK = "pg_wal"


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who is behind in reading WAL by so many bytes.

    ``standby``: what it has not written to its disk yet; ``replay``: what it has not applied; ``slot``: what is kept
    for it; ``archive``: what is not archived yet. ``active``: it reads, so waiting helps. ``left``: the bytes that may
    still be written before the server gives a slot up; None without such a limit.
    """

    kind: Literal["standby", "replay", "slot", "archive"]
    name: str
    behind: int
    active: bool
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the server's machine and its bytes; ``what`` lies on it."""

    what: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Wal:
    """``written``: bytes since the server was made; the difference of two looks is what was written between them.

    ``archive_trouble``: why nothing is archived, in words; empty when all is well or there is no archive. ``kept``:
    the size of pg_wal; ``usual``: what it may have without anybody being behind. ``hidden``: what this role can't see,
    in words. ``disks`` is empty where they can't be seen.
    """

    written: int
    readers: tuple[Reader, ...]
    archive_trouble: str
    kept: int | None
    usual: int
    disks: tuple[Disk, ...]
    hidden: tuple[str, ...]

    @property
    def room_known(self) -> bool:
        """Whether the disk that WAL is kept on can be watched."""
        return any(disk.what == WAL_DISK for disk in self.disks)


_LOG = """
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::int8,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))
       + pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_keep_size')),
       pg_catalog.has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE'),
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
"""
# A base backup that is being made and a standby that has yet to begin have no position.
_STANDBYS = """
SELECT application_name || CASE WHEN count(*) OVER (PARTITION BY application_name) > 1
                                THEN ' (process ' || pid || ')' ELSE '' END,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), coalesce(flush_lsn, write_lsn, sent_lsn))::int8,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn)::int8
FROM pg_catalog.pg_stat_replication WHERE state IS NULL OR state <> 'backup' ORDER BY pid
"""
# Where a logical slot may restart depends on the oldest transaction of the whole server: a long COPY of ours holds it
# back, and to wait in the midst of it would be in vain. What its reader has confirmed goes on.
_SLOTS = """
SELECT slot_name, active, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),
         CASE WHEN active AND slot_type = 'logical' THEN confirmed_flush_lsn ELSE restart_lsn END)::int8, safe_wal_size
FROM pg_catalog.pg_replication_slots
WHERE restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost' AND NOT temporary ORDER BY slot_name
"""
# The name of a WAL file tells its place: timeline, then the position in units of 4 GB, then the segment in these.
_ARCHIVER = """
SELECT coalesce(pg_catalog.current_setting('archive_command'), '') IN ('', '(disabled)')
       AND coalesce(pg_catalog.current_setting('archive_library', true), '') = '',
       last_failed_time > coalesce(last_archived_time, '-infinity'), last_failed_wal,
       CASE WHEN last_archived_wal ~ '^[0-9A-F]{24}$' THEN
         ('x' || substr(last_archived_wal, 9, 8))::bit(32)::int8 * 4294967296
         + (('x' || substr(last_archived_wal, 17, 8))::bit(32)::int8 + 1) * %(segment)s END
FROM pg_catalog.pg_stat_archiver WHERE pg_catalog.current_setting('archive_mode') <> 'off'
"""


def wal(connection: Connection) -> Wal:
    """Looks once. ``connection`` is to any database of a primary, in autocommit mode. Raises psycopg.Error."""
    row = connection.execute(_LOG).fetchone()
    assert row is not None
    written, segment, usual, sees_folder, sees_readers = row
    hidden: list[str] = []
    readers = [*_standbys(connection), *_slots(connection)]
    if not sees_readers and connection.execute("SELECT FROM pg_catalog.pg_stat_replication").fetchone() is not None:
        hidden.append("how far the standbys are")
    archive, trouble = _archive(connection, written, segment)
    kept = None
    if sees_folder:
        (kept,) = connection.execute("SELECT sum(size)::int8 FROM pg_catalog.pg_ls_waldir()").fetchone() or (None,)
    else:
        hidden.append("how much WAL is kept")
    disks = tuple(_disks(connection))
    if not any(disk.what == WAL_DISK for disk in disks):
        hidden.append("how much room is left for WAL")
    return Wal(written, (*readers, *archive), trouble, kept, usual, disks, tuple(hidden))


def _standbys(connection: Connection) -> Iterator[Reader]:
    for name, unwritten, unapplied in connection.execute(_STANDBYS):
        if unwritten is not None:
            yield Reader("standby", name, max(0, unwritten), active=True)
        if unapplied is not None:
            yield Reader("replay", name, max(0, unapplied), active=True)


def _slots(connection: Connection) -> Iterator[Reader]:
    for name, active, kept, left in connection.execute(_SLOTS):
        yield Reader("slot", name, max(0, kept), active, left)


def _archive(connection: Connection, written: int, segment: int) -> tuple[list[Reader], str]:
    row = connection.execute(_ARCHIVER, {"segment": segment}).fetchone()
    if row is None:
        return [], ""
    nobody, failing, failed_on, archived_up_to = row
    if nobody:
        return [], "archive_mode is on, but there is neither an archive_command nor an archive_library"
    trouble = f"archiving fails, last of {failed_on}" if failing else ""
    if archived_up_to is None or failing:
        return [], trouble
    return [Reader("archive", "", max(0, written - archived_up_to), active=True)], trouble


def _disks(connection: Connection) -> Iterator[Disk]:
    """Only of this machine, and where the role may know the folder and the operating system lets us look."""
    (role_may,) = connection.execute("SELECT pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')").fetchone() or (
        False,
    )
    if not role_may or not is_here(connection):
        return
    (folder,) = connection.execute("SELECT pg_catalog.current_setting('data_directory')").fetchone() or ("",)
    seen: set[tuple[int, int]] = set()
    for what, place in ((WAL_DISK, Path(folder) / "pg_wal"), ("the data directory", Path(folder))):
        try:
            found, device = os.statvfs(place), place.stat().st_dev
        except OSError:
            continue
        if (device, found.f_fsid) not in seen:
            seen.add((device, found.f_fsid))
            yield Disk(what, found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize)
