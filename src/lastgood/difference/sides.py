"""One side of a comparison: its tables, and their rows as blocks of COPY text."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lastgood.context import Context
from lastgood.dump.names import Relation
from lastgood.facts import DigestRules, Facts, TableFacts

SideName = Literal["a", "b"]


@dataclass(frozen=True, slots=True)
class SideColumn:
    """A column with rows' values: not a generated one. ``type`` as ``format_type`` writes it, without its modifier;
    None if unknown."""

    name: str
    type: str | None


@dataclass(frozen=True, slots=True)
class SideTable:
    """A table with rows of its own, or a partitioned table that stands for its partitions.

    ``relation`` is the name under which it is compared. ``keys``: columns without NULL that identify a row, the
    primary key first; ``sure``: those of them that identify each row for certain. ``bytes`` is its size as far as it is
    known, ``rows`` the exact number where the side knows it without reading. ``zoned``: the text of its rows may depend
    on the time zone. ``root``: the partitioned table that it belongs to. ``unreadable``: why its rows cannot be read,
    empty if they can. ``parts`` belongs to the side.
    """

    relation: Relation
    columns: tuple[SideColumn, ...]
    keys: tuple[tuple[str, ...], ...] = ()
    sure: tuple[tuple[str, ...], ...] = ()
    bytes: int = 0
    rows: int | None = None
    zoned: bool = True
    root: Relation | None = None
    unreadable: str = ""
    parts: tuple[object, ...] = field(default=(), repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)


@dataclass(frozen=True, slots=True)
class Block:
    """Whole rows in COPY text form, in UTF-8, each with its line end (LF); ``columns``: their fields, in order."""

    data: bytes
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A table of a side to be read, for the comparison number ``number``. ``columns`` are needed, in this order; blocks
    of a side that cannot choose have others."""

    number: int
    table: SideTable
    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReadingPart:
    """A part of the rows of a reading; after the ``last`` one, no more follow. ``blocks`` must be read to their end, or
    closed, before the next portion is taken."""

    reading: Reading
    blocks: Generator[Block]
    last: bool


class OpenSide(Protocol):
    """A side whose content no longer changes. All methods may be called from several threads.

    ``tables`` by the name under which they are compared; a partitioned table is represented by its partitions.
    ``facts``: recorded facts of the same content, with digests; None without a record. ``rules``: the settings under
    which the rows are written. ``in_order``: rows are available in one sequence only, so that one thread has to read
    all tables. ``own_columns``: rows have all columns of the table in its order, whatever a reading needs. ``no_rows``:
    why rows cannot be read at all; empty if they can.
    """

    @property
    def tables(self) -> Mapping[Relation, SideTable]: ...
    @property
    def facts(self) -> Facts | None: ...
    @property
    def rules(self) -> DigestRules: ...
    @property
    def zone_samples(self) -> tuple[str, ...]: ...
    @property
    def in_order(self) -> bool: ...
    @property
    def own_columns(self) -> bool: ...
    @property
    def no_rows(self) -> str: ...

    def read(self, wanted: Sequence[Reading], cancelled: Callable[[], bool]) -> Iterator[ReadingPart]:
        """The rows of the wanted tables, in the sequence of the side; a table without rows may have no portion. Blocks
        have several MB each. Raises Interrupted, psycopg.Error, BadPoint."""

    def count(self, table: SideTable, given: Sequence[str] = ()) -> int:
        """The number of rows; of those with a value in one of the columns ``given``, if there are any. Raises
        psycopg.Error."""

    def has_text(self, text: Sequence[str], reading: Reading, cancelled: Callable[[], bool]) -> bool:
        """Whether ``text`` is the ``TableFacts.text`` of a table with the columns of the reading; False if the side
        cannot read single tables. Stops where the text begins to differ. Raises as ``read`` does."""

    def digest(self, reading: Reading, cancelled: Callable[[], bool]) -> TableFacts | None:
        """The facts of a table, with the content digest of the rows in the order of ``reading.columns``; None if the
        side cannot read single tables. Raises as ``read`` does."""


class Side(Protocol):
    """A side that is not open yet. ``label`` names it for people."""

    @property
    def label(self) -> str: ...
    @property
    def fixed(self) -> bool:
        """Whether its text is already written, so that the other side has to follow its settings."""

    def opened(self, like: OpenSide | None, context: Context) -> AbstractContextManager[OpenSide]:
        """The side for the length of a ``with`` block. ``like``: the other side, if it is open: text is written under
        the same settings where the side has a choice. Raises LastgoodError."""
