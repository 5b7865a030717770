"""What a reading of a dump consists of: commands, and sections of rows."""

from __future__ import annotations

from dataclasses import dataclass

from lastgood.dump.names import Relation
from lastgood.dump.statements import Command


@dataclass(frozen=True, slots=True)
class RowsStart:
    """Rows of one table follow, up to ``RowsEnd``. One table may have several such sections.

    ``columns``: those that each row has, in order; None when the dump does not tell. ``copy`` is the COPY command to
    send, made up where the dump has INSERTs. ``in_place``: the rows stand in the dump's text as COPY takes them.
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
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class RowPart:
    """A part of one row that is too long to be held; the ``last`` one has the line end. ``line`` is the row's."""

    data: bytes
    last: bool
    offset: int
    line: int

    @property
    def rows(self) -> int:
        """How many rows end here."""
        return int(self.last)

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Skimmed:
    """Whole rows that were passed over: ``size`` bytes, of which only the ``first`` row is given, without line end."""

    first: bytes
    size: int
    rows: int
    offset: int
    line: int


@dataclass(frozen=True, slots=True)
class RowsEnd:
    """The section is complete."""

    rows: int


@dataclass(frozen=True, slots=True)
class SegmentStart:
    """Another dump of the same database follows, in the same text from ``offset`` on or in the next file (None): such
    as the rows after the definitions.
    """

    offset: int | None


Entry = SegmentStart | Command | RowsStart | Rows | RowPart | Skimmed | RowsEnd
