"""What the state of WAL means for a load: go on, wait, or stop before production is at risk. Rules alone, no server.

A load may add so many bytes (``Limits.max_wal_lag``) to what each reader of WAL is behind. A reader that is at work is
waited for; one that does not move for a while, or is not there at all, makes the load stop where it would fill a disk.
"""

from __future__ import annotations

from dataclasses import dataclass

from lastgood import sizes
from lastgood.errors import Failed
from lastgood.events import Caution, Event, Note
from lastgood.postgres.wal import Disk, Reader, Wal

RESUME_AT = 0.75  # of the limit, so that the load does not stop and go with every look
SLOT_ROOM = 64 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_wal_lag``: bytes that the load may add to any backlog. A disk keeps at least ``least_free`` bytes free, or
    ``free_share`` of it where that is more, but never more than ``most_free`` for that. ``patience``: seconds to wait
    for a reader that does not move."""

    max_wal_lag: int = 1 << 30
    least_free: int = 1 << 30
    free_share: float = 0.05
    most_free: int = 20 << 30
    patience: float = 60.0

    def floor(self, disk: Disk) -> int:
        """What has to stay free on a disk."""
        return max(self.least_free, min(self.most_free, int(disk.total * self.free_share)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """``wait``: why the load has to wait, empty when it may go on. ``stop``: the error that ends it. ``say``: what the
    operator is to hear; each thing once."""

    wait: str = ""
    stop: Failed | None = None
    say: tuple[Event, ...] = ()


def words(reader: Reader) -> str:
    """The backlog in words: ``the replication slot "s" is 1.2 GB behind``."""
    behind = sizes.said(reader.behind)
    return {
        "standby": f'the standby "{reader.name}" is {behind} behind',
        "replay": f'the standby "{reader.name}" has {behind} yet to apply',
        "slot": f'the replication slot "{reader.name}" is {behind} behind',
        "archive": f"the archive of WAL is {behind} behind",
    }[reader.kind]


def disk_is_full(disk: Disk, limits: Limits) -> str:
    """Why a disk has too little room, in words; empty when it has enough."""
    if disk.free >= limits.floor(disk):
        return ""
    return (
        f"the disk of {disk.what} has {sizes.said(disk.free)} free of {sizes.said(disk.total)}, "
        f"and {sizes.said(limits.floor(disk))} have to stay free"
    )


def drop_slot(name: str) -> str:
    """What helps against a slot that nobody reads."""
    quoted = name.replace("'", "''")
    return f"SELECT pg_drop_replication_slot('{quoted}')"


class Judge:
    """Gives a verdict on each look. It remembers the least that each reader was ever behind, who is waited for and
    since when, and what was said."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._least: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str], tuple[int, float]] = {}
        self._given_up: set[tuple[str, str]] = set()
        self._said: set[str] = set()
        self._say: list[Event] = []
        self._began: int | None = None

    def look(self, found: Wal, now: float) -> Verdict:
        """``now`` in seconds of a clock that never goes back."""
        self._say = []
        if self._began is None:
            self._began = found.written
        if found.hidden:
            self._once(Note(f"not watched, because it can't be seen from here: {', '.join(found.hidden)}"))
        if not found.room_known and found.kept is not None and found.kept > found.usual + self.limits.max_wal_lag:
            self._once(
                Caution(f"pg_wal has grown to {sizes.said(found.kept)}, more than the server's settings explain")
            )
        stop = self._disks(found) or self._archive(found) or self._readers(found)
        wait, late = self._wait(found, now)
        stop = stop or late
        return Verdict("" if stop else wait, stop, tuple(self._say))

    def _once(self, event: Note | Caution) -> None:
        if event.text not in self._said:
            self._said.add(event.text)
            self._say.append(event)

    def _disks(self, found: Wal) -> Failed | None:
        for disk in found.disks:
            if text := disk_is_full(disk, self.limits):
                return Failed(f"cannot go on loading: {text}", hint="Make room there, and run it again.")
        return None

    def _archive(self, found: Wal) -> Failed | None:
        if not found.archive_trouble:
            return None
        self._once(Caution(f"{found.archive_trouble}: WAL piles up on the server"))
        assert self._began is not None
        since = found.written - self._began
        if since <= self.limits.max_wal_lag:
            return None
        return Failed(
            f"cannot go on loading: {found.archive_trouble}, and {sizes.said(since)} of WAL were written since the "
            "load began",
            hint="Mend the archiving (the server's log says what fails), or allow more with --max-wal-lag.",
        )

    def _readers(self, found: Wal) -> Failed | None:
        """Those that waiting does not help."""
        for reader in found.readers:
            key = (reader.kind, reader.name)
            self._least[key] = min(self._least.get(key, reader.behind), reader.behind)
            if reader.active:
                continue
            if reader.left is not None and reader.left < SLOT_ROOM:
                return Failed(
                    f"cannot go on loading: {words(reader)}, nobody reads it, and the server gives it up after "
                    f"{sizes.said(max(0, reader.left))} more (max_slot_wal_keep_size)",
                    hint=f"Let its reader catch up; if nobody needs it any more: {drop_slot(reader.name)}",
                )
            if self._over(reader) <= self.limits.max_wal_lag:
                continue
            if found.room_known:
                self._once(
                    Caution(f'nobody reads the replication slot "{reader.name}": the server keeps all WAL for it')
                )
            else:
                return Failed(
                    f"cannot go on loading: {words(reader)}, nobody reads it, and how much room is left for WAL can't "
                    "be seen",
                    hint=f"Allow more with --max-wal-lag; if nobody needs the slot any more: {drop_slot(reader.name)}",
                )
        return None

    def _over(self, reader: Reader) -> int:
        return reader.behind - self._least[(reader.kind, reader.name)]

    def _wait(self, found: Wal, now: float) -> tuple[str, Failed | None]:
        """Whom to wait for, the one that is furthest behind; or the error that one of them is late beyond patience."""
        limit = self.limits.max_wal_lag
        behind: list[tuple[bool, int, str]] = []
        present: set[tuple[str, str]] = set()
        for reader in found.readers:
            key: tuple[str, str] = (reader.kind, reader.name)
            if not reader.active or key in self._given_up:
                continue
            waited = key in self._waiting
            near = reader.left is not None and reader.left < (2 if waited else 1) * SLOT_ROOM
            if self._over(reader) <= (RESUME_AT * limit if waited else limit) and not near:
                continue
            present.add(key)
            least, since = self._waiting.get(key, (reader.behind, now))
            if reader.behind < least or not waited:
                least, since = reader.behind, now
            self._waiting[key] = (least, since)
            if now - since < self.limits.patience:
                behind.append((reader.kind != "replay", reader.behind, words(reader)))
            elif reader.kind == "replay":
                # Its WAL is safe on its own disk; one that is told to apply late would be waited for in vain.
                self._given_up.add(key)
                self._once(Caution(f"{words(reader)} and does not move: no longer waited for"))
            else:
                return "", Failed(
                    f"cannot go on loading: {words(reader)}, and did not move for {self.limits.patience:.0f} s",
                    hint="Look at it, or allow more with --max-wal-lag.",
                )
        for key in set(self._waiting) - present:
            del self._waiting[key]
        return max(behind, default=(False, 0, ""))[-1], None
