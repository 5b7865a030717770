"""What the state of WAL means for a load: go on, wait, or stop before production is at risk. Rules alone, no server.

A load may add so many bytes (``Limits.max_wal_lag``) to what each reader of WAL is behind; then it waits for that
reader. One that does not move for a while makes the load stop. A disk that gets full stops it at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lastgood.errors import Failed
from lastgood.events import Caution, Event, Note
from lastgood.postgres.wal import Disk, Reader, Wal
from lastgood.text import units

RESUME_AT = 0.75  # of the limit, so that the load does not stop and go with every look
SLOT_ROOM = 64 << 20
ALLOW_MORE = "Look at it, or allow more with --max-wal-lag."


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_wal_lag``: bytes that the load may add to any backlog. A disk keeps at least ``least_free`` bytes free, or
    ``free_share`` of it where that is more, but never more than ``most_free`` for that. ``patience``: seconds to wait
    for a reader that does not move: more than the minute after which a server tries again to archive."""

    max_wal_lag: int = 1 << 30
    least_free: int = 1 << 30
    free_share: float = 0.05
    most_free: int = 20 << 30
    patience: float = 120.0

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
    behind = units.size(reader.behind)
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
        f"the disk of {disk.what} has {units.size(disk.free)} free of {units.size(disk.total)}, "
        f"and {units.size(limits.floor(disk))} have to stay free"
    )


def drop_slot(name: str) -> str:
    """What helps against a slot that nobody reads."""
    quoted = name.replace("'", "''")
    return f"SELECT pg_drop_replication_slot('{quoted}')"


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """Why the load waits: ``words``. When ``behind`` does not shrink for as long as patience lasts, the load stops
    because of ``late``; without that, the obstacle is no longer heeded."""

    key: tuple[str, str]
    behind: int
    words: str
    late: str
    hint: str = ALLOW_MORE


class Judge:
    """Gives a verdict on each look. It remembers the least that each reader was ever behind, what is waited for and
    since when, and what was said."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._least: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str], tuple[int, float]] = {}
        self._given_up: set[tuple[str, str]] = set()
        self._said: set[str] = set()
        self._say: list[Event] = []
        self._trouble_at: int | None = None

    def look(self, found: Wal, now: float) -> Verdict:
        """``now`` in seconds of a clock that never goes back."""
        self._say = []
        if found.hidden:
            self._once("hidden", Note(f"not watched, because it can't be seen from here: {', '.join(found.hidden)}"))
        if not found.room_known and found.kept is not None and found.kept > found.usual + self.limits.max_wal_lag:
            text = f"pg_wal has grown to {units.size(found.kept)}, more than the server's settings explain"
            self._once("grown", Caution(text))
        for disk in found.disks:
            if text := disk_is_full(disk, self.limits):
                stop = Failed(f"cannot go on loading: {text}", hint="Make room there, and run it again.")
                return Verdict(stop=stop, say=tuple(self._say))
        obstacles = (*self._archive(found), *self._readers(found))
        return self._verdict([each for each in obstacles if each.late or each.key not in self._given_up], now)

    def _once(self, what: str, event: Note | Caution) -> None:
        if what not in self._said:
            self._said.add(what)
            self._say.append(event)

    def _verdict(self, obstacles: list[_Obstacle], now: float) -> Verdict:
        """Names the worst obstacle, or the one that outlasts patience."""
        waits: list[_Obstacle] = []
        stop = None
        before, self._waiting = self._waiting, {}
        for each in obstacles:
            least, since = before.get(each.key, (each.behind, now))
            if each.behind < least:
                least, since = each.behind, now
            self._waiting[each.key] = (least, since)
            if now - since < self.limits.patience:
                waits.append(each)
            elif each.late:
                stop = stop or Failed(f"cannot go on loading: {each.words}{each.late}", hint=each.hint)
            else:
                self._given_up.add(each.key)
                self._once(each.words, Caution(f"{each.words} and does not move: no longer waited for"))
        worst = max(waits, key=lambda each: (bool(each.late), each.behind), default=None)
        return Verdict("" if stop or worst is None else worst.words, stop, tuple(self._say))

    def _archive(self, found: Wal) -> Iterator[_Obstacle]:
        """An archive that fails may recover: the server tries again every minute."""
        if not found.archive_trouble:
            self._trouble_at = None
            return
        self._once("archive", Caution(f"{found.archive_trouble}: WAL piles up on the server"))
        if self._trouble_at is None:
            self._trouble_at = found.written
        since = found.written - self._trouble_at
        if since > self.limits.max_wal_lag:
            yield _Obstacle(
                ("archive", ""),
                since,
                f"{found.archive_trouble}, and {units.size(since)} of WAL were written since",
                f", for more than {self.limits.patience:.0f} s",
                "Mend the archiving (the server's log says what fails), or allow more with --max-wal-lag.",
            )

    def _readers(self, found: Wal) -> Iterator[_Obstacle]:
        for reader in found.readers:
            key: tuple[str, str] = (reader.kind, reader.name)
            least = self._least[key] = min(self._least.get(key, reader.behind), reader.behind)
            waited = key in self._waiting
            over = reader.behind - least > self.limits.max_wal_lag * (RESUME_AT if waited else 1)
            near = reader.left is not None and reader.left < SLOT_ROOM * (2 if waited else 1)
            if near:
                gives_up = f"; the server gives it up after {units.size(max(0, reader.left or 0))} more"
                yield _Obstacle(
                    key,
                    reader.behind,
                    words(reader) + gives_up,
                    f" (max_slot_wal_keep_size){self._unmoved()}",
                    f"Let its reader catch up; if nobody needs it any more: {drop_slot(reader.name)}",
                )
            elif over and not reader.active and found.room_known:
                # A matter of the disk, which is watched: waiting does not help.
                text = f'nobody reads the replication slot "{reader.name}": the server keeps all WAL for it'
                self._once(text, Caution(text))
            elif over and not reader.active:
                yield _Obstacle(
                    key,
                    reader.behind,
                    f"{words(reader)} and nobody reads it",
                    f", and how much room is left for WAL can't be seen{self._unmoved()}",
                    f"Allow more with --max-wal-lag; if nobody needs the slot any more: {drop_slot(reader.name)}",
                )
            elif over:
                # What a standby has yet to apply is safe on its own disk, and some are told to apply late. Some
                # readers of logical slots confirm nothing as long as nobody writes to their database: then the watch
                # on the disk has to do.
                bearable = reader.kind == "replay" or (reader.kind == "slot" and found.room_known)
                yield _Obstacle(key, reader.behind, words(reader), "" if bearable else self._unmoved())

    def _unmoved(self) -> str:
        return f", and that did not get less for {self.limits.patience:.0f} s"
