"""The rows of both sides of pairs, read in step where that is possible, several pairs at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import psycopg

from lastgood.difference.in_step import differing
from lastgood.difference.limit import Limit, words_of
from lastgood.difference.pairing import Pair
from lastgood.difference.sides import Block, OpenSide, Reading, ReadingPart, SideName, SideTable
from lastgood.difference.tally import InvalidText

SIDES: tuple[SideName, SideName] = ("a", "b")


@dataclass(slots=True)
class PairRows:
    """Reads the rows of ``pairs`` and gives them to ``take``, except for those that cancel each other out.

    ``in_step``: whether equal rows of a pair may do that. ``came``: a block of a side of a pair was read. ``finish``:
    all rows of a pair were taken. ``failed``: a pair cannot be read, and why; it is not finished. All of these are
    called from several threads.
    """

    a: OpenSide
    b: OpenSide
    pairs: Mapping[int, Pair]
    limit: Limit
    in_step: Callable[[int], bool]
    came: Callable[[SideName, int, bytes], None]
    take: Callable[[SideName, int, Block], None]
    finish: Callable[[int], None]
    failed: Callable[[int, str], None]
    _unread: dict[int, set[SideName]] = field(default_factory=dict)
    _failed: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def tasks(self, numbers: Sequence[int]) -> list[Callable[[], None]]:
        """The work for pairs, in the sequence of ``numbers``; tasks may run at the same time."""
        self._unread = {number: {name for name in SIDES if self._table(name, number)} for number in numbers}
        in_order = [name for name in SIDES if self._side(name).in_order]
        together = len(in_order) < 2  # two sequences may differ
        # A side that has a sequence of its own leads, and the other one follows.
        leader = in_order[0] if in_order else "a"
        tasks: list[Callable[[], None]] = []
        alone: list[tuple[int, Callable[[], None]]] = []
        for name in SIDES:
            wanted = [
                number
                for number, names in self._unread.items()
                if name in names and not (together and name != leader and leader in names)
            ]
            follower = _other(name) if together else None
            if name in in_order:
                tasks.append(partial(self._read, name, follower, wanted))
            else:
                alone += [(number, partial(self._read, name, follower, [number])) for number in wanted]
        alone.sort(key=lambda task: numbers.index(task[0]))
        return tasks + [task for _, task in alone]

    def _read(self, leader: SideName, follower: SideName | None, numbers: Sequence[int]) -> None:
        side = self._side(leader)
        begun: set[int] = set()  # a table may have several parts, with other tables between them
        ended: set[int] = set()
        readings = [self._reading(leader, number) for number in numbers]
        for number, parts in groupby(side.read(readings, self.limit.stop), key=lambda part: part.reading.number):
            with closing(_blocks_of(parts, ended)) as blocks:
                self._attempt(number, leader, blocks, None if number in begun else follower)
                if side.in_order:
                    deque(blocks, maxlen=0)  # what a failure has left is in the way of the other tables
            begun.add(number)
            if number in ended:
                self._done(number, leader, follower)
        for number in numbers:
            if number not in ended:
                self._attempt(number, leader, iter(()), None if number in begun else follower)
                self._done(number, leader, follower)

    def _attempt(self, number: int, leader: SideName, blocks: Iterator[Block], follower: SideName | None) -> None:
        if number in self._failed:
            return
        try:
            with ExitStack() as stack:
                sides: dict[SideName, Iterator[Block]] = {"a": iter(()), "b": iter(()), leader: blocks}
                if follower is not None and follower in self._unread[number]:
                    parts = self._side(follower).read([self._reading(follower, number)], self.limit.stop)
                    sides[follower] = stack.enter_context(closing(_blocks_of(parts, set())))
                self._take(number, sides)
        except InvalidText as error:
            why = str(error)
        except psycopg.Error as error:
            if error.sqlstate is None:  # the connection is lost
                raise
            why = words_of(error)
        else:
            return
        self._failed.add(number)
        self.failed(number, why)

    def _take(self, number: int, sides: Mapping[SideName, Iterator[Block]]) -> None:
        columns = self._columns(number)
        a, b = (self._comparable(name, number, sides[name], columns) for name in SIDES)
        for name, data in differing(a, b):
            self.take(name, number, Block(data, columns))

    def _comparable(
        self, name: SideName, number: int, blocks: Iterable[Block], columns: tuple[str, ...]
    ) -> Iterator[bytes]:
        """The blocks that can be read in step with those of the other side; the others are taken as they are."""
        in_step = self.in_step(number)
        for block in blocks:
            self.came(name, number, block.data)
            if in_step and block.columns == columns:
                yield block.data
            else:
                self.take(name, number, block)

    def _done(self, number: int, *names: SideName | None) -> None:
        with self._lock:
            self._unread[number].difference_update(name for name in names if name is not None)
            last = not self._unread[number]
        if last and number not in self._failed:
            self.finish(number)

    def _side(self, name: SideName) -> OpenSide:
        return self.a if name == "a" else self.b

    def _table(self, name: SideName, number: int) -> SideTable | None:
        pair = self.pairs[number]
        table = pair.a if name == "a" else pair.b
        return None if table is None or table.unreadable else table

    def _reading(self, name: SideName, number: int) -> Reading:
        table = self._table(name, number)
        assert table is not None  # the caller chose the side
        return Reading(number, table, self._columns(number))

    def _columns(self, number: int) -> tuple[str, ...]:
        """The columns of a pair; in the order of a side that cannot choose, so that rows have the same text."""
        pair = self.pairs[number]
        for side, table in ((self.a, pair.a), (self.b, pair.b)):
            if side.own_columns and table is not None and {*table.names} == {*pair.columns}:
                return table.names
        return pair.columns


def _other(name: SideName) -> SideName:
    return "b" if name == "a" else "a"


def _blocks_of(parts: Iterable[ReadingPart], ended: set[int]) -> Generator[Block]:
    """The blocks of a table's parts; its number is added to ``ended`` with the last one."""
    for part in parts:
        if part.last:
            ended.add(part.reading.number)
        with closing(part.blocks) as blocks:
            yield from blocks
