"""The script of a restore: a dump's commands and sections of rows in their order, each with the session state in force.

Rows stay in the dump: a section has only their position. The same applies to large objects and other bulk data: the
size of a script depends only on the dump's definitions.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lastgood.dump.entries import Entry, RowPart, Rows, RowsEnd, RowsStart, SegmentStart, Skimmed
from lastgood.dump.statements import POST_DATA, Command, Kind, LargeObjectCall, Setting, Verdict

State = tuple[tuple[str, Command], ...]
"""Names of settings and the commands that set them, in the order in which they were first set."""

_ON_LARGE_OBJECT = re.compile(rb"(?:ALTER|COMMENT\s+ON|(?:GRANT|REVOKE)\s[^;]*?\sON)\s+LARGE\s+OBJECT\s", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ScriptStep:
    """A command, to be run in a session with this ``state``."""

    command: Command
    state: State


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one table: ``rows`` of them, ``size`` bytes of COPY text, at offset ``begin`` of the dump's text if
    ``start.in_place``. ``number`` counts the script's sections and bulks from 0.
    """

    number: int
    start: RowsStart
    rows: int
    size: int
    begin: int
    state: State


@dataclass(frozen=True, slots=True)
class Bulk:
    """Commands that are data (large objects, INSERTs with computed values), to be read from the dump again and run in
    order in one session: from offset ``begin`` to ``end`` of the text (None: to its end). ``inserts``: some are not for
    large objects.
    """

    number: int
    begin: int
    end: int | None
    line: int
    state: State
    inserts: bool


Item = ScriptStep | Section | Bulk


def is_data(command: Command) -> bool:
    """Whether a command is part of a ``Bulk``."""
    if command.verdict is not Verdict.RUN:
        return False
    if command.kind is Kind.INSERT or isinstance(command.detail, LargeObjectCall):
        return True
    return command.kind is Kind.TRANSACTION or (
        command.kind in (Kind.OWNER, Kind.COMMENT, Kind.GRANT) and bool(_ON_LARGE_OBJECT.match(command.statement.text))
    )


@dataclass(slots=True)
class Script:
    """A script. ``items`` are in the dump's order; for a dump in several segments, table definitions come first, then
    all rows, then keys, indexes and similar objects. ``in_place``: the text has every section's rows in COPY's
    format."""

    items: list[Item] = field(default_factory=list)
    in_place: bool = True

    @property
    def sections(self) -> Iterator[Section]:
        """The sections of rows, in order."""
        return (item for item in self.items if isinstance(item, Section))

    def recording(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries of a read unchanged, and record them."""
        return ScriptRecorder(self).pass_on(entries)


class ScriptRecorder:
    """A converter from entries to items. ``number`` is that of the section or bulk of the latest entry."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._state: dict[str, Command] = {}
        self._frozen: State | None = ()
        self.number = -1
        self._bulk: Command | None = None
        self._inserts = False
        self._start: RowsStart | None = None
        self._begin = self._size = 0
        self._segments: list[int] = []  # the items before each segment but the first

    def pass_on(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """See ``Script.recording``."""
        for entry in entries:
            self.note(entry)
            yield entry
        self.close()
        if self._segments:
            self._script.items = rows_between(self._script.items, self._segments)

    def note(self, entry: Entry) -> None:
        """Record one entry."""
        match entry:
            case Rows() | RowPart() | Skimmed():
                if not self._size:
                    self._begin = entry.offset
                self._size += entry.size
            case RowsStart():
                self.close(entry.offset)
                self.number += 1
                self._start = entry
                self._begin = self._size = 0
            case RowsEnd():
                assert self._start is not None  # a section has a beginning
                start, self._start = self._start, None
                self._script.in_place = self._script.in_place and (start.in_place or not self._size)
                self._script.items.append(
                    Section(self.number, start, entry.rows, self._size, self._begin, self._state_in_force())
                )
            case Command():
                self._command(entry)
            case SegmentStart():
                self.close(entry.offset)
                self._segments.append(len(self._script.items))

    def close(self, offset: int | None = None) -> None:
        """End the open bulk, before the text at ``offset``."""
        if self._bulk is not None:
            begun = self._bulk.statement
            self._script.items.append(
                Bulk(self.number, begun.offset, offset, begun.line, self._state_in_force(), self._inserts)
            )
            self._bulk = None

    def _command(self, command: Command) -> None:
        if is_data(command):
            if self._bulk is None:
                self._bulk, self._inserts = command, False
                self.number += 1
            self._inserts = self._inserts or command.kind is Kind.INSERT
            return
        self.close(command.statement.offset)
        if isinstance(command.detail, Setting) and command.verdict is Verdict.RUN:
            self._state[command.detail.name] = command
            self._frozen = None
        if command.kind is not Kind.PSQL:
            self._script.items.append(ScriptStep(command, self._state_in_force()))

    def _state_in_force(self) -> State:
        if self._frozen is None:
            self._frozen = tuple(self._state.items())
        return self._frozen


def rows_between(items: Sequence[Item], starts: Sequence[int]) -> list[Item]:
    """The items of a dump in several segments (a set of files, or the output of ``cat schema.sql data.sql``) in an
    executable order; ``starts`` are the numbers of the first items of segments.

    Each segment by itself is in pg_dump's order. In the order of the whole, rows could come after keys, or before their
    tables.
    """
    before: list[Item] = []
    rows: list[Item] = []
    behind: list[Item] = []
    for start, end in itertools.pairwise([0, *starts, len(items)]):
        segment = items[start:end]
        begin, stop = _rows_in(segment)
        before += segment[:begin]
        rows += segment[begin:stop]
        behind += segment[stop:]
    return [*before, *rows, *behind]


def _rows_in(segment: Sequence[Item]) -> tuple[int, int]:
    """The range of a segment's rows, including all items that belong to them."""
    creating = [i for i, item in enumerate(segment) if isinstance(item, ScriptStep) and item.command.creates]
    tables = [i for i in creating if _is(segment[i], Kind.TABLE)]
    keys = [i for i, item in enumerate(segment) if _is(item, *POST_DATA)]
    # pg_dump creates all tables before the first key; another program's file keeps its own order.
    stop = next((i for i in keys if not tables or i > tables[-1]), len(segment))
    if not any(i < stop for i in creating):
        return 0, stop
    data = (
        i for i, item in enumerate(segment) if not isinstance(item, ScriptStep) or _is(item, Kind.SEQUENCE_POSITION)
    )
    return min(next(data, stop), stop), stop


def _is(item: Item, *kinds: Kind) -> bool:
    return isinstance(item, ScriptStep) and item.command.verdict is Verdict.RUN and item.command.kind in kinds
