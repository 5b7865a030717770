"""Keys and hashes of rows in DuckDB: counted, joined and sorted within a memory limit, the rest on disk.

A row is one value: a line of COPY text, its line end included. Lines reach DuckDB as Arrow strings without a copy, and
everything that is done to each of them is done there: splitting, hashing, grouping. A key is the text of its fields;
COPY escapes tabs, so that joined fields are unambiguous. Values are equal if their texts are: bytes, not collations.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from lastgood.difference.expressions import NO_VALUES, identifier, key_of, line_of, literal, noted, values_of, with_mask
from lastgood.difference.results import Change
from lastgood.difference.sides import Block, SideName

if TYPE_CHECKING:
    import duckdb
    import pyarrow

MEMORY = "160MB"
THREADS = 2
PREFIX = "lastgood-difference-"
INVALID_TEXT = 'invalid byte sequence for encoding "UTF8"'


@dataclass(frozen=True, slots=True)
class RowForm:
    """The form of a table's rows for the comparison: ``columns`` in this order, of which ``key`` identify a row;
    without a key, rows are a multiset. ``references``: columns whose values are noted."""

    columns: tuple[str, ...]
    key: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of rows. ``repeated``: keys that more than one row of a side has, so that they identify none.
    ``referenced``: see ``TableDifference``."""

    only_a: int = 0
    only_b: int = 0
    changed: int = 0
    repeated: int = 0
    referenced: int = 0


class InvalidText(Exception):
    """Rows that are not valid UTF-8. A server does not verify text that it stored before."""


class Tally:
    """A temporary DuckDB, opened when it is first used: digests may settle everything. A context manager that removes
    its folder. Tables have numbers."""

    def __init__(self, folder: Path | None = None, *, memory: str = MEMORY, threads: int = THREADS) -> None:
        self._place = folder
        self._folder: Path | None = None
        self._limits = (memory, threads)
        self._opened: duckdb.DuckDBPyConnection | None = None
        self._lock = threading.Lock()
        self._cursors: list[duckdb.DuckDBPyConnection] = []
        self._stored: set[int] = set()

    def _database(self) -> duckdb.DuckDBPyConnection:
        if self._opened is not None:
            return self._opened
        import duckdb

        folder, (memory, threads) = self._place, self._limits
        _remove_stale(folder or Path(tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=folder))
        self._folder.chmod(0o700)
        self._opened = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": memory,
                "threads": threads,
                "temp_directory": str(self._folder / "spilled"),
                "preserve_insertion_order": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
            },
        )
        return self._opened

    def __enter__(self) -> Tally:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def interrupt(self) -> None:
        """End the running queries; they raise duckdb.InterruptException."""
        with self._lock:
            for cursor in self._cursors:
                cursor.interrupt()

    @contextmanager
    def session(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for one thread."""
        with self._lock:
            cursor = self._database().cursor()
            self._cursors.append(cursor)
        try:
            yield cursor
        finally:
            with self._lock:
                self._cursors.remove(cursor)
            cursor.close()

    def add(self, number: int, form: RowForm, side: SideName, block: Block, *, whole: bool) -> None:
        """Store a block's rows. ``whole``: verify all of their text, which ``collect`` needs; else that of their keys.
        Raises InvalidText."""
        import duckdb
        import pyarrow

        lines = as_lines(block.data)
        if whole:
            try:
                lines.validate(full=True)
            except pyarrow.ArrowInvalid as error:
                raise InvalidText(INVALID_TEXT) from error
        line = line_of(block.columns, form.columns)
        if form.key:
            fields = f"{key_of(block.columns, form.key)} AS k, hash({line}) AS h"
        else:
            # Rows without a key are found by their hash alone: 128 bits.
            fields = f"md5_number({line}) AS k, 0 AS h"
        with self.session() as cursor:
            self._prepare(cursor, number, form)
            cursor.register("block", lines)
            try:
                references = noted(block.columns, form.references)
                cursor.execute(f"INSERT INTO t{number} SELECT {_flag(side)}, {fields}, {references} FROM block")
            except duckdb.InvalidInputException as error:
                raise InvalidText(INVALID_TEXT) from error
            finally:
                cursor.unregister("block")

    def _prepare(self, cursor: duckdb.DuckDBPyConnection, number: int, form: RowForm) -> None:
        """Create the table for the rows of both sides, if there is none."""
        kinds = "k VARCHAR, h UBIGINT" if form.key else "k UHUGEINT, h UBIGINT"
        with self._lock:
            if number not in self._stored:
                cursor.execute(f"CREATE TABLE t{number} (side BOOLEAN, {kinds}, r UBIGINT)")
                self._stored.add(number)

    def count(self, number: int, form: RowForm) -> Counts:
        """Count the differing rows. With ``repeated``, the other numbers are those of the multiset."""
        if number not in self._stored:
            return Counts()
        with self.session() as cursor:
            row = cursor.execute(
                f"""
                WITH g AS ({_grouped(number)})
                SELECT coalesce(sum(greatest(a - b, 0)), 0)::BIGINT, coalesce(sum(greatest(b - a, 0)), 0)::BIGINT,
                       count(*) FILTER (a = 1 AND b = 1 AND low <> high),
                       count(*) FILTER (a > 1 OR b > 1),
                       coalesce(sum({_REFERENCED}), 0)::BIGINT
                FROM g
                """
            ).fetchone()
            assert row is not None  # an aggregate always gives a row
            counts = Counts(*row)
            if not form.key:
                return replace(counts, changed=0, repeated=0)
            if not counts.repeated:
                return counts
            row = cursor.execute(
                f"""
                WITH g AS (SELECT count(*) FILTER (NOT side) AS a, count(*) FILTER (side) AS b, 0 AS low, 0 AS high,
                                  NULL AS noted_a, max(r) FILTER (side) AS noted_b
                           FROM t{number} GROUP BY k, h)
                SELECT sum(greatest(a - b, 0))::BIGINT, sum(greatest(b - a, 0))::BIGINT,
                       coalesce(sum({_REFERENCED}), 0)::BIGINT FROM g
                """
            ).fetchone()
            assert row is not None
            return replace(counts, only_a=row[0], only_b=row[1], changed=0, referenced=row[2])

    def keep_differing(self, number: int) -> None:
        """Keep the keys of the rows that differ, for a second reading."""
        with self.session() as cursor:
            cursor.execute(
                f"""
                CREATE OR REPLACE TABLE d{number} AS
                WITH g AS ({_grouped(number)})
                SELECT k, greatest(a - b, 0) AS only_a, greatest(b - a, 0) AS only_b, a = b AS changed FROM g
                WHERE a <> b OR low <> high
                """
            )

    def drop(self, number: int) -> None:
        """Drop the stored rows of a table."""
        if number in self._stored:
            with self.session() as cursor:
                cursor.execute(f"DROP TABLE t{number}")
            self._stored.discard(number)

    def prepare_rows(self, cursor: duckdb.DuckDBPyConnection, number: int, form: RowForm) -> None:
        """Create the empty tables for the second reading."""
        for side in ("a", "b"):
            kind = "VARCHAR" if form.key else "UHUGEINT"
            cursor.execute(f"CREATE OR REPLACE TABLE r{number}{side} (k {kind}, line VARCHAR)")

    def collect(self, number: int, form: RowForm, side: SideName, block: Block) -> None:
        """Keep the differing rows of a block, of the second reading, as lines of ``form.columns``."""
        lines = as_lines(block.data)
        line = line_of(block.columns, form.columns)
        key = key_of(block.columns, form.key) if form.key else f"md5_number({line})"
        with self.session() as cursor:
            cursor.register("block", lines)
            cursor.execute(
                f"INSERT INTO r{number}{side} SELECT k, line FROM (SELECT {key} AS k, {line} AS line FROM block) "
                f"WHERE k IN (SELECT k FROM d{number} WHERE only_{side} > 0 OR changed)"
            )

    def lines(
        self, cursor: duckdb.DuckDBPyConnection, number: int, form: RowForm, change: Change, side: SideName
    ) -> Iterator[bytes]:
        """The collected lines of one kind of change, as a side has them, in blocks of COPY text."""
        if change == "changed" and not form.key:
            return
        condition = "d.changed" if change == "changed" else f"d.{change} > 0"
        source = f"SELECT r.line FROM r{number}{side} r JOIN d{number} d USING (k) WHERE {condition}"
        if not form.key:
            source = (
                f"SELECT unnest(repeat([line], n)) AS line FROM (SELECT any_value(r.line) AS line, "
                f"any_value(d.{change}) AS n FROM r{number}{side} r JOIN d{number} d USING (k) "
                f"WHERE {condition} GROUP BY k)"
            )
        for batch in _batches(cursor, f"SELECT rtrim(line, chr(10)) || chr(10) AS line FROM ({source})"):
            data = batch.column("line").to_pylist()
            yield "".join(data).encode()

    def copies(self, cursor: duckdb.DuckDBPyConnection, number: int, side: SideName) -> Iterator[bytes]:
        """Every copy that a side has of each differing row, of a table without a key, in blocks of COPY text. Of a row,
        only the side with more copies was collected; the other one has as many fewer as they differ by."""
        other: SideName = "b" if side == "a" else "a"
        source = (
            f"SELECT any_value(r.line) AS line, count(*) AS n FROM r{number}{side} r JOIN d{number} d USING (k) "
            f"WHERE d.only_{side} > 0 GROUP BY k UNION ALL "
            f"SELECT any_value(r.line), count(*) - any_value(d.only_{other}) FROM r{number}{other} r "
            f"JOIN d{number} d USING (k) WHERE d.only_{other} > 0 GROUP BY k"
        )
        lines = f"SELECT unnest(repeat([rtrim(line, chr(10)) || chr(10)], n::BIGINT)) AS line FROM ({source})"
        for batch in _batches(cursor, lines):
            yield "".join(batch.column("line").to_pylist()).encode()

    def rows(
        self,
        cursor: duckdb.DuckDBPyConnection,
        number: int,
        form: RowForm,
        masked: Collection[str] = (),
        first: int | None = None,
    ) -> Iterator[pyarrow.RecordBatch]:
        """The collected rows: ``change``, ``key``, ``a``, ``b`` (lists of values in the order of the columns; NULL
        where the side has no such row) and ``columns``, the names of those that differ. Values of ``masked`` columns
        are replaced. ``first``: so many of them only."""
        limit = "" if first is None else f" LIMIT {first}"
        yield from _batches(cursor, self._rows(number, form, masked) + limit)

    def export(self, number: int, form: RowForm, masked: Collection[str] = ()) -> str:
        """The query for a file: ``change``, ``differing`` (the names of columns), and for each column the value of
        either side, as ``a.NAME`` and ``b.NAME``."""
        values = "".join(
            f", {side}[{place}] AS {identifier(f'{side}.{name}')}"
            for place, name in enumerate(form.columns, 1)
            for side in ("a", "b")
        )
        rows = self._rows(number, form, masked)
        return f"SELECT change, array_to_string(columns, ',') AS differing{values} FROM ({rows})"

    def _rows(self, number: int, form: RowForm, masked: Collection[str]) -> str:
        count = len(form.columns)
        names = "([" + ", ".join(literal(name) for name in form.columns) + "]::VARCHAR[])"
        at = [form.columns.index(name) + 1 for name in form.key]
        key = f"[coalesce(a, b)[i] FOR i IN {at}]" if at else NO_VALUES
        if not form.key:
            both = " UNION ALL ".join(
                f"SELECT 'only_{side}' AS change, {'v' if side == 'a' else 'NULL'} AS a, "
                f"{'v' if side == 'b' else 'NULL'} AS b FROM (SELECT {values_of('line', form.columns)} AS v, "
                f"unnest(range(n)) FROM (SELECT any_value(r.line) AS line, any_value(d.only_{side}) AS n "
                f"FROM r{number}{side} r JOIN d{number} d USING (k) WHERE d.only_{side} > 0 GROUP BY k))"
                for side in ("a", "b")
            )
        else:
            both = (
                "SELECT CASE WHEN b IS NULL THEN 'only_a' WHEN a IS NULL THEN 'only_b' ELSE 'changed' END AS change, "
                f"a, b FROM (SELECT {values_of('ra.line', form.columns)} AS a, "
                f"{values_of('rb.line', form.columns)} AS b "
                f"FROM r{number}a ra FULL JOIN r{number}b rb USING (k))"
            )
        differing = f"[{names}[i] FOR i IN range(1, {count + 1}) IF a[i] IS DISTINCT FROM b[i]]"
        rows = (
            f"SELECT change, {key} AS key, a, b, CASE WHEN change = 'changed' THEN {differing} ELSE [] END AS columns "
            f"FROM ({both}) ORDER BY try_cast(key[1] AS DECIMAL(38, 9)), key, change, a, b"
        )
        hidden = [form.columns.index(name) + 1 for name in form.columns if name in masked]
        if not hidden:
            return rows
        of_key = [place for place, name in enumerate(form.key, 1) if name in masked]
        values = f"{with_mask('key', of_key)} AS key, {with_mask('a', hidden)} AS a, {with_mask('b', hidden)} AS b"
        return f"SELECT change, {values}, columns FROM ({rows})"

    def write(self, cursor: duckdb.DuckDBPyConnection, query: str, file: Path, options: str) -> None:
        """Write the result of a query to a file, with DuckDB's own writers. Raises duckdb.Error."""
        file.touch(mode=0o600)  # its rows may be secret
        cursor.execute(f"COPY ({query}) TO {literal(str(file))} ({options}, USE_TMP_FILE false)")


def _remove_stale(folder: Path) -> None:
    """Remove the folders of processes that were killed: they hold keys."""
    for path in folder.glob(f"{PREFIX}*"):
        owner = path.name.removeprefix(PREFIX).partition("-")[0]
        with suppress(OSError, ValueError):  # it may be another user's, or end now
            if path.stat().st_uid == os.getuid() and not psutil.pid_exists(int(owner)):
                shutil.rmtree(path)


def as_lines(data: bytes) -> Any:
    """A block as an Arrow table with one column ``line``, which points into ``data``."""
    import numpy
    import pyarrow

    ends = numpy.flatnonzero(numpy.frombuffer(data, dtype=numpy.uint8) == 10)
    offsets = numpy.empty(len(ends) + 1, dtype=numpy.int64)
    offsets[0] = 0
    numpy.add(ends, 1, out=offsets[1:])
    lines = pyarrow.LargeStringArray.from_buffers(len(ends), pyarrow.py_buffer(offsets), pyarrow.py_buffer(data))
    return pyarrow.table([lines], names=["line"])


def _flag(side: SideName) -> str:
    return "true" if side == "b" else "false"


def _grouped(number: int) -> str:
    return (
        "SELECT k, count(*) FILTER (NOT side) AS a, count(*) FILTER (side) AS b, min(h) AS low, max(h) AS high, "
        f"max(r) FILTER (NOT side) AS noted_a, max(r) FILTER (side) AS noted_b FROM t{number} GROUP BY k"
    )


# Of a group of rows with the same key: those of b with a noted value that the row of a does not have.
_REFERENCED = (
    "CASE WHEN noted_b IS NULL THEN 0 WHEN a = b THEN (low <> high AND noted_a IS DISTINCT FROM noted_b)::INT "
    "ELSE greatest(b - a, 0) END"
)


def _batches(cursor: duckdb.DuckDBPyConnection, query: str) -> Iterator[pyarrow.RecordBatch]:
    reader = cursor.sql(query).to_arrow_reader(10_000)
    while True:
        try:
            yield reader.read_next_batch()
        except StopIteration:
            return
