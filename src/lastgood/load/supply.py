"""The source of rows for a script: their positions in the file, or one stream in its order."""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from lastgood.dump.archive.members import ArchiveMember, members
from lastgood.dump.entries import RowPart, Rows
from lastgood.dump.files.formats import DumpSource
from lastgood.dump.lexer.lexer import tokens
from lastgood.dump.lexer.tokens import Statement
from lastgood.dump.reader import read
from lastgood.dump.rulings import rule
from lastgood.dump.script import Bulk, Script, ScriptRecorder, Section, is_data
from lastgood.dump.statements import Command
from lastgood.errors import Corrupt, Interrupted

BLOCK = 1 << 18
AHEAD = 16 << 20
"""The number of bytes of a stream that may wait for the server."""


class Supply(Protocol):
    """The data to which a script refers. ``in_order``: available only in the script's order."""

    in_order: bool

    def rows(self, section: Section) -> Iterator[bytes]:
        """The section's COPY text, in blocks that may end anywhere."""

    def commands(self, bulk: Bulk) -> Iterator[Command]:
        """The bulk's commands."""

    def close(self) -> None:
        """Stop reading. Raises an error that no caller has received yet."""


def supply_for(
    source: DumpSource, script: Script, *, database: str | None, in_place: bool, only: Collection[int] | None = None
) -> Supply:
    """The best supply for a dump. ``in_place``: offsets in its text are offsets in the file. ``only``: the numbers of
    the sections and bulks that will be asked for, if not all of them."""
    if source.kind == "plain":
        if in_place and script.in_place and not source.compression:
            return InPlace(source)
    elif not any(isinstance(item, Bulk) for item in script.items):
        sections = list(script.sections)
        found = members(source) or ()
        # The same commands in the same order: each member is the source of its section.
        if [member.copy for member in found] == [section.start.copy for section in sections]:
            return InArchive(dict(zip((section.number for section in sections), found, strict=True)))
    return Streamed(source, database, only)


class InArchive:
    """An archive without large objects: the data of each table by itself, several at once."""

    in_order = False

    def __init__(self, members_: Mapping[int, ArchiveMember]) -> None:
        self._members = members_

    def rows(self, section: Section) -> Iterator[bytes]:
        return self._members[section.number].blocks()

    def commands(self, bulk: Bulk) -> Iterator[Command]:
        raise AssertionError("an archive with commands among its data is streamed")

    def close(self) -> None:
        pass


class InPlace:
    """A plain file: each section by itself, several at once."""

    in_order = False

    def __init__(self, source: DumpSource) -> None:
        self._path = source.path
        self._file = os.open(source.path, os.O_RDONLY | os.O_CLOEXEC)

    def rows(self, section: Section) -> Iterator[bytes]:
        return self._text(section.begin, section.begin + section.size)

    def commands(self, bulk: Bulk) -> Iterator[Command]:
        for token in tokens(self._text(bulk.begin, bulk.end)):
            if isinstance(token, Statement):
                # Its position in the dump: the text that was read here begins elsewhere.
                offset, line = bulk.begin + token.offset, bulk.line + token.line - 1
                command = rule(replace(token, offset=offset, line=line))
                if not is_data(command):
                    raise Corrupt(
                        f'cannot use "{self._path}": the file changed while it was read',
                        hint="Find out what writes to it, then run the command again.",
                    )
                yield command

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def spans(self, section: Section, parts: int) -> list[range]:
        """A section's bytes in the file, in parts of whole lines, about as large as each other."""
        end = section.begin + section.size
        cuts = [self._line_from(section.begin + section.size * n // parts, end) for n in range(1, parts)]
        return [range(a, b) for a, b in itertools.pairwise([section.begin, *cuts, end])]

    def span(self, span: range) -> Iterator[bytes]:
        """The text of a part."""
        return self._text(span.start, span.stop)

    def _line_from(self, position: int, end: int) -> int:
        """The start of the first line at or after a position."""
        for block in self._text(position - 1, end):
            at = block.find(b"\n")
            if at >= 0:
                return position + at
            position += len(block)
        return end

    def byte_of(self, section: Section, row: int) -> int:
        """The start of a row in the file; ``row`` counts from 1 in the section, which is read again."""
        position, before = section.begin, row - 1
        for block in self.rows(section):
            lines = block.count(b"\n")
            if lines >= before:
                at = -1
                for _ in range(before):
                    at = block.index(b"\n", at + 1)
                return position + at + 1
            before -= lines
            position += len(block)
        return position

    def _text(self, begin: int, end: int | None) -> Iterator[bytes]:
        while end is None or begin < end:
            block = os.pread(self._file, BLOCK if end is None else min(BLOCK, end - begin), begin)
            if not block:
                if end is None:
                    return
                raise Corrupt(
                    f'cannot use "{self._path}": the file became shorter while it was read',
                    hint="Find out what writes to it, then run the command again.",
                )
            yield block
            begin += len(block)

    def close(self) -> None:
        os.close(self._file)


class Streamed:
    """Any other dump: a thread reads up to ``AHEAD`` bytes ahead while the sections are loaded in sequence. ``only``:
    the sections that are asked for; without the others, which nothing would take, the reading would stop."""

    in_order = True

    def __init__(self, source: DumpSource, database: str | None, only: Collection[int] | None = None) -> None:
        self._source = source
        self._database = database
        self._only = only
        self._changed = threading.Condition()
        self._waiting: deque[tuple[int, bytes | Command]] = deque()
        self._size = 0
        self._at = -1  # the section or bulk that the reader is in
        self._ended = self._stopped = False
        self._failed: BaseException | None = None
        self._thread: threading.Thread | None = None

    def rows(self, section: Section) -> Iterator[bytes]:
        for piece in self._pieces(section.number):
            assert isinstance(piece, bytes)  # both readings assign the same numbers
            yield piece

    def commands(self, bulk: Bulk) -> Iterator[Command]:
        for piece in self._pieces(bulk.number):
            assert isinstance(piece, Command)
            yield piece

    def _pieces(self, number: int) -> Iterator[bytes | Command]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="lastgood-read", daemon=True)
            self._thread.start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._reached(number))
                if self._stopped:
                    raise Interrupted("interrupted while the dump was loaded")
                if not self._waiting or self._waiting[0][0] != number:
                    if self._failed is not None and not self._waiting:
                        raise self._failed
                    return
                _, piece = self._waiting.popleft()
                self._size -= _weight(piece)
                self._changed.notify_all()
            yield piece

    def _reached(self, number: int) -> bool:
        """Whether the next piece of that section is available, or none follows."""
        if self._waiting:
            return self._waiting[0][0] >= number
        return self._at > number or self._ended

    def _read(self) -> None:
        recorder = ScriptRecorder(Script())
        try:
            for entry in read(self._source, database=self._database):
                recorder.note(entry)
                if self._only is not None and recorder.number not in self._only:
                    continue
                piece: bytes | Command
                if isinstance(entry, Rows | RowPart):
                    piece = entry.data
                elif isinstance(entry, Command) and is_data(entry):
                    piece = entry
                else:
                    continue
                with self._changed:
                    self._at = recorder.number
                    self._changed.wait_for(lambda: self._size < AHEAD or self._stopped)
                    if self._stopped:
                        return
                    self._waiting.append((recorder.number, piece))
                    self._size += _weight(piece)
                    self._changed.notify_all()
        except BaseException as error:
            self._failed = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            finished = self._ended and not self._waiting
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if finished and self._failed is not None:
            raise self._failed


def _weight(piece: bytes | Command) -> int:
    return len(piece if isinstance(piece, bytes) else piece.statement.text)
