"""The entries of a dump: commands, and sections of rows."""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command


@dataclass(frozen=True, slots=True)
class RowsStart:
    """The beginning of rows of one table, up to ``RowsEnd``. A table may have several such sections.

    ``columns``: the columns of each row, in order; None if unknown. ``copy`` is the COPY command to send, constructed
    if the dump has INSERTs. ``in_place``: the dump's text has the rows in COPY's format.
    """

    relation: Relation
    columns: tuple[str, ...] | None
    copy: bytes
    offset: int
    line: int
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """Whole rows in COPY text form, each with its line end (LF): ``rows`` of them. ``line`` is that of the first."""

    data: bytes
    rows: int
    offset: int
    line: int

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class RowPart:
    """A part of a row that is too long for memory; the ``last`` part has the line end. ``line`` is the row's."""

    data: bytes
    last: bool
    offset: int
    line: int

    @property
    def rows(self) -> int:
        """The number of rows that end in this part."""
        return int(self.last)

    @property
    def size(self) -> int:
        """The size in bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Skimmed:
    """Whole rows that were skipped: ``size`` bytes, of which only the ``first`` row is included, without line end."""

    first: bytes
    size: int
    rows: int
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class RowsEnd:
    """The end of a section."""

    rows: int


@dataclass(frozen=True, slots=True)
class SegmentStart:
    """The beginning of another dump of the same database, such as the rows after the definitions: at ``offset`` of the
    same text, or in the next file (None).
    """

    offset: int | None


Entry = SegmentStart | Command | RowsStart | Rows | RowPart | Skimmed | RowsEnd
