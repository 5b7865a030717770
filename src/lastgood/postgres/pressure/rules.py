"""Rules for a load by the state of WAL: continue, wait, or stop before production is at risk. No access to a server.

A load may add ``Limits.max_wal_lag`` bytes to the lag of each reader of WAL; then it waits for that reader. A reader
that makes no progress for a while stops the load. A disk that is nearly full stops it at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lastgood.errors import Failed
from lastgood.events import Caution, Event, Note
from lastgood.postgres.pressure.wal import Disk, Wal, WalReader
from lastgood.text import units
from lastgood.text.quoting import literal

RESUME_AT = 0.75  # of the limit, so that the load does not pause and continue with every check
SLOT_ROOM = 64 << 20
ALLOW_MORE = "Check that reader, or allow more with --max-wal-lag."


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_wal_lag``: bytes that the load may add to any lag. ``least_free`` bytes of a disk must remain free, or
    ``free_share`` of it if that is more, but at most ``most_free``. ``patience``: seconds to wait for a reader without
    progress: more than the minute after which a server retries to archive."""

    max_wal_lag: int = 1 << 30
    least_free: int = 1 << 30
    free_share: float = 0.05
    most_free: int = 20 << 30
    patience: float = 120.0

    def floor(self, disk: Disk) -> int:
        """Bytes that must remain free on a disk."""
        return max(self.least_free, min(self.most_free, int(disk.total * self.free_share)))


@dataclass(frozen=True, slots=True)
class StrainVerdict:
    """``wait``: why the load has to wait, empty if it may continue. ``stop``: the error that ends it. ``events``: for
    the operator, each reported once."""

    wait: str = ""
    stop: Failed | None = None
    events: tuple[Event, ...] = ()


def lag_text(reader: WalReader) -> str:
    """The lag in words: ``the replication slot "s" is 1.2 GB behind``."""
    behind = units.size(reader.behind)
    return {
        "standby": f'the standby "{reader.name}" is {behind} behind',
        "replay": f'the standby "{reader.name}" has {behind} left to replay',
        "slot": f'the replication slot "{reader.name}" is {behind} behind',
        "archive": f"the WAL archive is {behind} behind",
    }[reader.kind]


def disk_is_full(disk: Disk, limits: Limits) -> str:
    """The message about a disk with too little free space; empty if it has enough."""
    if disk.free >= limits.floor(disk):
        return ""
    return (
        f"the disk of {disk.what} has {units.size(disk.free)} free of {units.size(disk.total)}, "
        f"and {units.size(limits.floor(disk))} must remain free"
    )


def drop_slot(name: str) -> str:
    """The command that drops an unused slot."""
    return f"SELECT pg_drop_replication_slot({literal(name)})"


@dataclass(frozen=True, slots=True)
class _Obstacle:
    """A reason to wait: ``words``. If ``behind`` does not shrink within the limit of patience, the load stops because
    of ``late``; with an empty ``late`` the obstacle is ignored from then on."""

    key: tuple[str, str]
    behind: int
    words: str
    late: str
    hint: str = ALLOW_MORE


class StrainJudge:
    """The judge of each state of WAL. It remembers the smallest lag of each reader, the current obstacles and
    their start, and the events already reported."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._least: dict[tuple[str, str], int] = {}
        self._waiting: dict[tuple[str, str], tuple[int, float]] = {}
        self._given_up: set[tuple[str, str]] = set()
        self._reported: set[str] = set()
        self._events: list[Event] = []
        self._trouble_at: int | None = None

    def assess(self, current: Wal, now: float) -> StrainVerdict:
        """The verdict on ``current``; ``now`` in seconds of a monotonic clock."""
        self._events = []
        if current.hidden:
            self._once(
                "hidden", Note(f"not monitored, because it is not visible from here: {', '.join(current.hidden)}")
            )
        grown = current.size is not None and current.size > current.usual_size + self.limits.max_wal_lag
        if grown and not current.room_known:
            text = f"pg_wal has grown to {units.size(current.size or 0)}, more than the server's settings explain"
            self._once("grown", Caution(text))
        for disk in current.disks:
            if text := disk_is_full(disk, self.limits):
                stop = Failed(f"cannot continue loading: {text}", hint="Free disk space there, then run it again.")
                return StrainVerdict(stop=stop, events=tuple(self._events))
        obstacles = (*self._archive(current), *self._readers(current))
        return self._verdict([each for each in obstacles if each.late or each.key not in self._given_up], now)

    def _once(self, what: str, event: Note | Caution) -> None:
        if what not in self._reported:
            self._reported.add(what)
            self._events.append(event)

    def _verdict(self, obstacles: list[_Obstacle], now: float) -> StrainVerdict:
        """The verdict on the worst obstacle, or the one that exceeded the limit of patience."""
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
                stop = stop or Failed(f"cannot continue loading: {each.words}{each.late}", hint=each.hint)
            else:
                self._given_up.add(each.key)
                self._once(each.words, Caution(f"{each.words} and makes no progress: loading no longer waits for it"))
        worst = max(waits, key=lambda each: (bool(each.late), each.behind), default=None)
        return StrainVerdict("" if stop or worst is None else worst.words, stop, tuple(self._events))

    def _archive(self, current: Wal) -> Iterator[_Obstacle]:
        """The obstacle of a failing archive, which may recover: the server retries every minute."""
        if not current.archive_trouble:
            self._trouble_at = None
            return
        self._once("archive", Caution(f"{current.archive_trouble}: WAL accumulates on the server"))
        if self._trouble_at is None:
            self._trouble_at = current.written
        since = current.written - self._trouble_at
        if since > self.limits.max_wal_lag:
            yield _Obstacle(
                ("archive", ""),
                since,
                f"{current.archive_trouble}, and {units.size(since)} of WAL were written since",
                f", for more than {self.limits.patience:.0f} s",
                "Fix the archiving (see the server's log for its error), or allow more with --max-wal-lag.",
            )

    def _readers(self, current: Wal) -> Iterator[_Obstacle]:
        for reader in current.readers:
            key: tuple[str, str] = (reader.kind, reader.name)
            least = self._least[key] = min(self._least.get(key, reader.behind), reader.behind)
            waited = key in self._waiting
            over = reader.behind - least > self.limits.max_wal_lag * (RESUME_AT if waited else 1)
            near = reader.left is not None and reader.left < SLOT_ROOM * (2 if waited else 1)
            if near:
                invalid = f"; the server invalidates it after {units.size(max(0, reader.left or 0))} more"
                yield _Obstacle(
                    key,
                    reader.behind,
                    lag_text(reader) + invalid,
                    f" (max_slot_wal_keep_size){self._unmoved()}",
                    f"Let its consumer catch up; if it is no longer needed: {drop_slot(reader.name)}",
                )
            elif over and not reader.active and current.room_known:
                # Waiting does not help; the monitored disk is the limit.
                text = f'the replication slot "{reader.name}" has no consumer: the server keeps all WAL for it'
                self._once(text, Caution(text))
            elif over and not reader.active:
                yield _Obstacle(
                    key,
                    reader.behind,
                    f"{lag_text(reader)} and has no consumer",
                    f", and the free space for WAL is not visible{self._unmoved()}",
                    f"Allow more with --max-wal-lag; if the slot is no longer needed: {drop_slot(reader.name)}",
                )
            elif over:
                # WAL to replay is safe on the standby's own disk, and some standbys replay with a configured delay.
                # Some consumers of logical slots confirm nothing while their database has no writes: then the monitored
                # disk is the limit.
                harmless = reader.kind == "replay" or (reader.kind == "slot" and current.room_known)
                yield _Obstacle(key, reader.behind, lag_text(reader), "" if harmless else self._unmoved())

    def _unmoved(self) -> str:
        return f", without progress for {self.limits.patience:.0f} s"
