"""The state of the write-ahead log at one moment: its position, the lag of its readers, and the free space for it.

A server keeps each WAL segment until the archive, every replication slot and a checkpoint have released it. When its
disk is full the whole server stops, including production."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lastgood.postgres.pressure.machine import is_here
from lastgood.postgres.server import Connection, only_row

WAL_DISK = "pg_wal"


@dataclass(frozen=True, slots=True)
class WalReader:
    """A reader of WAL and its lag in bytes.

    ``standby``: WAL that it has not flushed yet; ``replay``: not replayed; ``slot``: retained for it; ``archive``: not
    archived yet. ``active``: it is reading, so waiting helps. ``left``: the bytes that may still be written before the
    server invalidates a slot; None without such a limit.
    """

    kind: Literal["standby", "replay", "slot", "archive"]
    name: str
    behind: int
    active: bool
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the server's machine and its bytes; ``what`` is stored on it."""

    what: str
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Wal:
    """``written``: bytes since initdb; the difference of two readings is the WAL written between them.

    ``archive_trouble``: why archiving fails, in words; empty if it works or there is no archive. ``size``: that of
    pg_wal; ``usual_size``: that without any lag, by the server's settings. ``hidden``: figures that this role cannot
    see, in words. ``disks`` is empty if they are not visible."""

    written: int
    readers: tuple[WalReader, ...]
    archive_trouble: str
    size: int | None
    usual_size: int
    disks: tuple[Disk, ...]
    hidden: tuple[str, ...]

    @property
    def room_known(self) -> bool:
        """Whether the free space on the disk of WAL is visible."""
        return any(disk.what == WAL_DISK for disk in self.disks)


_LOG = """
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), '0/0')::int8,
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_segment_size')),
       pg_catalog.pg_size_bytes(pg_catalog.current_setting('max_wal_size'))
       + pg_catalog.pg_size_bytes(pg_catalog.current_setting('wal_keep_size')),
       pg_catalog.has_function_privilege('pg_catalog.pg_ls_waldir()', 'EXECUTE'),
       pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
"""
# A running base backup and a standby that has yet to begin have no position.
_STANDBYS = """
SELECT application_name || CASE WHEN count(*) OVER (PARTITION BY application_name) > 1
                                THEN ' (process ' || pid || ')' ELSE '' END,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), coalesce(flush_lsn, write_lsn, sent_lsn))::int8,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn)::int8
FROM pg_catalog.pg_stat_replication WHERE state IS NULL OR state <> 'backup' ORDER BY pid
"""
# The restart_lsn of a logical slot depends on the oldest transaction of the whole server: a long COPY of ours holds it
# back, and to wait during that COPY would be useless. Its confirmed_flush_lsn advances.
_SLOTS = """
SELECT slot_name, active, pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(),
         CASE WHEN active AND slot_type = 'logical' THEN confirmed_flush_lsn ELSE restart_lsn END)::int8, safe_wal_size
FROM pg_catalog.pg_replication_slots
WHERE restart_lsn IS NOT NULL AND wal_status IS DISTINCT FROM 'lost' AND NOT temporary ORDER BY slot_name
"""
# The name of a WAL file gives its position: the timeline, the position in units of 4 GB, and the segment in these.
_ARCHIVER = """
SELECT coalesce(pg_catalog.current_setting('archive_command'), '') IN ('', '(disabled)')
       AND coalesce(pg_catalog.current_setting('archive_library', true), '') = '',
       last_failed_time > coalesce(last_archived_time, '-infinity'), last_failed_wal,
       CASE WHEN last_archived_wal ~ '^[0-9A-F]{24}$' THEN
         ('x' || substr(last_archived_wal, 9, 8))::bit(32)::int8 * 4294967296
         + (('x' || substr(last_archived_wal, 17, 8))::bit(32)::int8 + 1) * %(segment)s END
FROM pg_catalog.pg_stat_archiver WHERE pg_catalog.current_setting('archive_mode') <> 'off'
"""


def read_wal(connection: Connection) -> Wal:
    """Read the state of WAL. ``connection`` is to any database of a primary, in autocommit mode. Raises
    psycopg.Error."""
    written, segment, usual_size, sees_folder, sees_readers = only_row(connection, _LOG)
    hidden: list[str] = []
    readers = [*_standbys(connection), *_slots(connection)]
    if not sees_readers and connection.execute("SELECT FROM pg_catalog.pg_stat_replication").fetchone() is not None:
        hidden.append("the lag of standbys")
    archive, trouble = _archive(connection, written, segment)
    size = None
    if sees_folder:
        (size,) = only_row(connection, "SELECT sum(size)::int8 FROM pg_catalog.pg_ls_waldir()")
    else:
        hidden.append("the size of pg_wal")
    disks = tuple(_disks(connection))
    if not any(disk.what == WAL_DISK for disk in disks):
        hidden.append("the free space for WAL")
    return Wal(written, (*readers, *archive), trouble, size, usual_size, disks, tuple(hidden))


def _standbys(connection: Connection) -> Iterator[WalReader]:
    for name, unwritten, unapplied in connection.execute(_STANDBYS):
        if unwritten is not None:
            yield WalReader("standby", name, max(0, unwritten), active=True)
        if unapplied is not None:
            yield WalReader("replay", name, max(0, unapplied), active=True)


def _slots(connection: Connection) -> Iterator[WalReader]:
    for name, active, kept, left in connection.execute(_SLOTS):
        yield WalReader("slot", name, max(0, kept), active, left)


def _archive(connection: Connection, written: int, segment: int) -> tuple[list[WalReader], str]:
    row = connection.execute(_ARCHIVER, {"segment": segment}).fetchone()
    if row is None:
        return [], ""
    unconfigured, failing, failed_on, archived_up_to = row
    if unconfigured:
        return [], "archive_mode is on, but neither archive_command nor archive_library is set"
    trouble = f"archiving fails, last for {failed_on}" if failing else ""
    if archived_up_to is None or failing:
        return [], trouble
    return [WalReader("archive", "", max(0, written - archived_up_to), active=True)], trouble


def _disks(connection: Connection) -> Iterator[Disk]:
    """The disks, if the server is on this machine and both the role and the operating system allow access."""
    (role_may,) = only_row(connection, "SELECT pg_catalog.pg_has_role('pg_read_all_settings', 'USAGE')")
    if not role_may or not is_here(connection):
        return
    (folder,) = only_row(connection, "SELECT pg_catalog.current_setting('data_directory')")
    seen: set[tuple[int, int]] = set()
    for what, place in ((WAL_DISK, Path(folder) / "pg_wal"), ("the data directory", Path(folder))):
        try:
            status, device = os.statvfs(place), place.stat().st_dev
        except OSError:
            continue
        if (device, status.f_fsid) not in seen:
            seen.add((device, status.f_fsid))
            yield Disk(what, status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)
