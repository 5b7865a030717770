"""The facts of a table's rows from their text, as COPY writes it: digest, newest time stamps, recorded migrations.

The rows of a dump and those of a database are read alike. So no query over a table is needed: planning one can run code
of the table's owner with the rights of the session, in an index predicate for example. COPY of a table runs none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from psycopg import sql
from xxhash import xxh3_128

from lastgood.facts import migrations, moments
from lastgood.facts.digest import RowsDigest, split_lines
from lastgood.facts.row_stream import copy_blocks
from lastgood.facts.text_digest import TextDigest
from lastgood.postgres.server import Connection

# The bytes of a field that are kept from a very long row: time stamps and migration versions are shorter.
BEGINNING = 1 << 12
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


class RowsText:
    """Rows with these columns. ``dated``: those of a date or time stamp type, ``offset`` those with a time zone.
    ``tool``: the migration tool whose table it is.

    ``whole`` digests their text; None if they come in several pieces of no certain order. ``newest`` has the greatest
    finite value of each dated column. ``zone_samples``: a value for each offset."""

    def __init__(
        self,
        columns: Sequence[str],
        *,
        dated: Collection[str],
        offset: Collection[str],
        tool: migrations.Tool | None = None,
    ) -> None:
        self.columns = tuple(columns)
        self.digest = RowsDigest()
        self.whole: TextDigest | None = TextDigest()
        self.newest: dict[str, bytes] = {}
        self.times = tuple(place for place, name in enumerate(columns) if name in dated)
        self.with_offset = {place for place, name in enumerate(columns) if name in offset}
        self.zone_samples: dict[bytes, bytes] = {}
        self.tool = tool
        self.migrations: list[migrations.Row] = []
        self._long: _LongRow | None = None

    @property
    def digest_of_text(self) -> tuple[str, ...]:
        """``TableFacts.text``."""
        return () if self.whole is None else self.whole.result()

    def only_digest(self) -> None:
        """Read no columns of the rows that follow."""
        self.times = ()
        self.tool = None

    def add(self, data: bytes) -> None:
        """Add whole lines, each with its LF."""
        if self.whole is not None:
            self.whole.add(data)
        lines = split_lines(data)
        self.digest.add_lines(lines)
        self._collect(lines)

    def add_part(self, data: bytes, *, last: bool) -> None:
        """Add a part of a row that is never held as a whole. ``last``: the row ends with it."""
        if self.whole is not None:
            self.whole.add(data)
        if self._long is None:
            self._long = _LongRow()
        self._long.add(data.removesuffix(b"\n") if last else data)
        if last:
            self.digest.add_hashed(self._long.digest.intdigest())
            self._collect([b"\t".join(self._long.fields)])
            self._long = None

    def _collect(self, lines: Sequence[bytes]) -> None:
        if self.times and lines:
            self._note_times(lines)
        if self.tool is not None:
            places = [self.columns.index(name) for name in self.tool.columns]
            for line in lines:
                fields = line.split(b"\t")
                self.migrations.append([_value(fields[place]) for place in places])

    def _note_times(self, lines: Sequence[bytes]) -> None:
        for place in self.times:
            # Split from the nearer side, and no further than needed. One pass for each column: to keep the lists of
            # all fields takes twice as long.
            left, right = place + 1, len(self.columns) - place
            if right == 1:
                values = [line.rpartition(b"\t")[2] for line in lines]
            elif left <= right:
                values = [line.split(b"\t", left)[place] for line in lines]
            else:
                values = [line.rsplit(b"\t", right)[-right] for line in lines]
            self._note_newest(place, values)

    def _note_newest(self, place: int, values: Sequence[bytes]) -> None:
        groups = self._by_offset(values) if place in self.with_offset else [values]
        name = self.columns[place]
        best = [found for found in (self.newest.get(name), *map(moments.newest, groups)) if found is not None]
        if best:
            self.newest[name] = (
                moments.latest_text(best) if place in self.with_offset else moments.newest(best) or best[0]
            )

    def _by_offset(self, values: Sequence[bytes]) -> Iterable[Sequence[bytes]]:
        """The values, grouped by the offset at their end: +01, +05:30. Keeps a sample of each new offset."""
        ending = moments.only_offset(values)
        groups: Mapping[bytes, Sequence[bytes]] = {ending: values} if ending is not None else moments.grouped(values)
        for offset in groups.keys() - self.zone_samples.keys() - {b""}:
            self.zone_samples[offset] = next(value for value in groups[offset] if value.endswith(offset))
        return groups.values()


class _LongRow:
    """A row that arrives in parts: its digest, and the beginning of each of its fields."""

    def __init__(self) -> None:
        self.digest = xxh3_128()
        self.fields = [b""]

    def add(self, data: bytes) -> None:
        self.digest.update(data)
        for number, piece in enumerate(data.split(b"\t")):
            if number:
                self.fields.append(b"")
            if (room := BEGINNING - len(self.fields[-1])) > 0:
                self.fields[-1] += piece[:room]


def rows_of(connection: Connection, copy: sql.Composed) -> list[list[str | None]]:
    """The rows of a small table as text. ``copy``: a ``COPY … TO STDOUT``. Raises psycopg.Error."""
    return [
        [_value(field) for field in line.split(b"\t")]
        for block in copy_blocks(connection, copy.as_bytes(connection))
        for line in split_lines(block)
    ]


def rows_in(connection: Connection, schema: str, table: str, columns: Sequence[str]) -> list[list[str | None]]:
    """These columns of a small table as text. Raises psycopg.Error, for a partitioned table too."""
    names = sql.SQL(", ").join(sql.Identifier(each) for each in columns)
    return rows_of(connection, sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(schema, table), names))


def _value(field: bytes) -> str | None:
    if field == b"\\N":
        return None
    if b"\\" in field:
        field = re.sub(rb"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), field)
    return field.decode("utf-8", "replace")
