"""The comparison of two sides: digests first where one side has recorded them, then the rows of what differs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psycopg

from lastgood.context import BACKGROUND, Context
from lastgood.difference.pairing import Pair, pairs, renamed_tables
from lastgood.difference.results import Change, Level, Rename, State, TableDifference
from lastgood.difference.sides import Block, OpenSide, Reading, Side, SideName, Table
from lastgood.difference.tally import Counts, Form, Tally
from lastgood.dump.names import Relation
from lastgood.errors import Interrupted
from lastgood.events import Progress
from lastgood.facts import Facts, TableFacts
from lastgood.facts.compare import FIRST_MAJOR_OF_THIS_TEXT, compare
from lastgood.postgres.errors import words
from lastgood.text.units import duration

if TYPE_CHECKING:
    import pyarrow

FileForm = Literal["csv", "json", "parquet"]
_WRITERS: dict[FileForm, str] = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet"}
_Take = Callable[[SideName, Reading, Generator[Block]], None]
SESSIONS = 2
INTERRUPTED = "cannot continue the comparison: interrupted"


class Comparison:
    """A finished comparison; ``tables`` has every table of both sides, by name. Usable in the ``with`` block of
    ``compared``: rows are read in the same snapshots."""

    def __init__(self, work: _Work) -> None:
        self._work = work
        self.tables: tuple[TableDifference, ...] = tuple(work.results[number] for number in sorted(work.results))
        self.renames: tuple[Rename, ...] = tuple(work.renames())

    @property
    def equal(self) -> bool:
        """Whether every table was compared, and is equal with the same structure."""
        return all(each.state == "equal" and not each.structure_differs for each in self.tables)

    def rows(
        self, table: TableDifference, *, masked: Collection[str] = (), first: int | None = None
    ) -> Iterator[pyarrow.RecordBatch]:
        """The differing rows of a table: ``change`` (see ``Change``), ``key``, ``a`` and ``b`` (lists of values as
        text, in the order of ``table.columns``; None where that side has no such row, and NULL as None in a list) and
        ``columns`` (the names of those that differ), in the order of the key.

        Values of the ``masked`` columns are replaced; ``first``: so many rows only. Needs ``keep`` in ``compared``.
        Reads both sides a second time. Raises as ``compared`` does."""
        number = self._work.collected(table)
        if number is not None:
            with self._work.tally.session() as cursor:
                yield from self._work.tally.rows(cursor, number, self._work.forms[number], masked, first)

    def lines(self, table: TableDifference, change: Change, side: SideName) -> Iterator[bytes]:
        """The differing rows of one kind, as that side has them, in blocks of COPY text with the columns
        ``table.columns``. See ``rows``."""
        number = self._work.collected(table)
        if number is not None:
            with self._work.tally.session() as cursor:
                yield from self._work.tally.lines(cursor, number, self._work.forms[number], change, side)

    def copies(self, table: TableDifference, side: SideName) -> Iterator[bytes]:
        """All copies that a side has of the differing rows of a table without a key, in blocks of COPY text with the
        columns ``table.columns``. See ``rows``."""
        number = self._work.collected(table)
        if number is not None:
            with self._work.tally.session() as cursor:
                yield from self._work.tally.copies(cursor, number, side)

    def write(self, table: TableDifference, file: Path, form: FileForm, *, masked: Collection[str] = ()) -> bool:
        """Write the differing rows of a table to ``file``: ``change``, ``differing`` (names of columns), and each
        column of either side, as ``a.NAME`` and ``b.NAME``. Returns False where there are none. Raises OSError, and as
        ``rows`` does."""
        import duckdb

        number = self._work.collected(table)
        if number is None:
            return False
        query = self._work.tally.export(number, self._work.forms[number], masked)
        with self._work.tally.session() as cursor:
            try:
                self._work.tally.write(cursor, query, file, _WRITERS[form])
            except duckdb.IOException as error:
                raise OSError(str(error).partition("\n")[0]) from error
        return True


@contextmanager
def compared(
    a: Side,
    b: Side,
    *,
    level: Level = "count",
    keep: bool = False,
    only: Callable[[Relation], bool] = lambda relation: True,
    by_root: bool = True,
    digests: bool = True,
    seconds: float | None = None,
    folder: Path | None = None,
    context: Context = BACKGROUND,
    stage: str = "difference",
) -> Iterator[Comparison]:
    """Compare two sides table by table, for the length of a ``with`` block.

    ``level``: see ``Level``. ``keep`` keeps the keys of differing rows, so that ``Comparison.rows`` can read them.
    ``only``: the tables to compare, by name. ``by_root``: a table whose partitions differ is compared as a whole.
    ``digests``: compare digests first where a side has recorded them, and read the rows only of tables that differ.
    ``seconds``: a time limit; tables that were not finished are reported as
    such. ``folder``: the place of temporary files, the system's without one. Emits Progress of ``stage`` in bytes.

    Raises BadPoint, Failed (from opening a side), Interrupted.
    """
    with ExitStack() as stack:
        opened: dict[SideName, OpenSide] = {}
        order: list[tuple[SideName, Side]] = [("a", a), ("b", b)]
        # A dump's text is written already: the other side follows its settings.
        order.sort(key=lambda each: not each[1].fixed)
        like: OpenSide | None = None
        for name, side in order:
            like = opened[name] = stack.enter_context(side.opened(like, context))
        tally = stack.enter_context(Tally(folder))
        work = _Work(opened["a"], opened["b"], tally, level, keep, _Limit(seconds, context), stage)
        found = pairs(opened["a"].tables, opened["b"].tables, by_root=by_root)
        work.run([pair for pair in found if only(pair.relation)], digests=digests or level == "digest")
        yield Comparison(work)


class _Limit:
    """The reasons to stop: a cancelled context, the end of the time, an error in another thread."""

    def __init__(self, seconds: float | None, context: Context) -> None:
        self.context = context
        self.seconds = seconds
        self._until = None if seconds is None else time.monotonic() + seconds
        self.failed = threading.Event()

    @property
    def over(self) -> bool:
        """Whether the time is over."""
        return self._until is not None and time.monotonic() >= self._until

    def stop(self) -> bool:
        """Whether to stop reading."""
        return self.failed.is_set() or self.over or self.context.cancelled()

    def without_end(self) -> None:
        """Remove the time limit: what is asked for afterwards has its own time."""
        self._until = None

    @property
    def why(self) -> str:
        """The reason for a table that was not compared."""
        return f"no time was left ({duration(self.seconds or 0)})"


@dataclass(slots=True)
class _Work:
    """The state of a comparison. Pairs have numbers."""

    a: OpenSide
    b: OpenSide
    tally: Tally
    level: Level
    keep: bool
    limit: _Limit
    stage: str
    results: dict[int, TableDifference] = field(default_factory=dict)
    forms: dict[int, Form] = field(default_factory=dict)
    pairs: dict[int, Pair] = field(default_factory=dict)
    _collected: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: int = 0
    _total: int = 0
    _rows: int = 0

    def run(self, found: Sequence[Pair], *, digests: bool) -> None:
        """Compare all pairs."""
        self.pairs = dict(enumerate(found))
        unread = [number for number, pair in self.pairs.items() if not self._settled(number, pair)]
        unread.sort(key=lambda number: self._size(self.pairs[number]))
        recorded = [number for number in unread if digests and self._recorded(self.pairs[number]) is not None]
        if recorded:
            self._total = sum(self._size(self.pairs[number]) for number in recorded)
            self._each([partial(self._digest, number) for number in recorded])
        rest = [number for number in unread if number not in self.results or self._to_count(number)]
        if rest:
            self._count(rest)
        self.limit.without_end()

    # What needs no reading ---------------------------------------------------------------------------------------

    def _settled(self, number: int, pair: Pair) -> bool:
        if pair.a is None or pair.b is None:
            if self.keep:
                return False
            self._one_sided(number, pair)
            return True
        why = pair.a.unreadable or pair.b.unreadable or self._other_text(pair.a, pair.b)
        if why:
            self._result(number, "not compared", why=why)
        elif not pair.columns and (pair.a.columns or pair.b.columns):
            self._result(number, "not compared", why="no column exists on both sides")
        else:
            return False
        return True

    def _one_sided(self, number: int, pair: Pair) -> None:
        side = self.a if pair.b is None else self.b
        table = pair.a or pair.b
        assert table is not None
        rows, why = table.rows, table.unreadable
        if rows is None and not why:
            try:
                rows = side.count(table)
            except psycopg.Error as error:
                why = _words(error)
        if pair.b is None:
            self._result(number, "only a", rows_a=rows, only_a=rows, only_b=0, changed=0, why=why)
        else:
            self._result(number, "only b", rows_b=rows, only_a=0, only_b=rows, changed=0, why=why)

    def _other_text(self, a: Table, b: Table) -> str:
        """Why the text of equal values may differ; empty if it does not."""
        here, there = self.a.rules, self.b.rules
        majors = (here.server_major, there.server_major)
        if majors[0] != majors[1] and not all(major and major >= FIRST_MAJOR_OF_THIS_TEXT for major in majors):
            one, two = (f"PostgreSQL {major}" if major else "an unknown version of PostgreSQL" for major in majors)
            return f"{one} and {two} may write the same values differently"
        if not a.zoned or not b.zoned or here.time_zone == there.time_zone:
            return ""
        samples = (self.a.zone_samples, self.b.zone_samples)
        unknown = here.time_zone is None or there.time_zone is None
        if unknown and (0 in (a.rows, b.rows) or (samples[0] and samples[0] == samples[1])):
            return ""  # the samples of one side were written alike on the other
        if unknown:
            return "time stamps were written in an unknown time zone"
        return f"time stamps were written in {here.time_zone} and in {there.time_zone}"

    # Digests -----------------------------------------------------------------------------------------------------

    def _recorded(self, pair: Pair) -> tuple[SideName, TableFacts] | None:
        """The side with a recorded digest of the table with exactly these columns."""
        if pair.a is None or pair.b is None or not pair.same_structure:
            return None
        names: tuple[SideName, ...] = ("a", "b")
        for name in names:
            table = self._recorded_by(self._side(name), pair)
            if table is not None and set(table.columns) == set(pair.columns):
                return name, table
        return None

    def _digest(self, number: int) -> None:
        pair = self.pairs[number]
        recorded = self._recorded(pair)
        assert recorded is not None and pair.a is not None and pair.b is not None
        where, then = recorded
        here, there = (self.a, self.b) if where == "a" else (self.b, self.a)
        assert here.facts is not None
        other = self._recorded_by(there, pair)
        if other is None or other.columns != then.columns:
            reading = Reading(number, pair.b if where == "a" else pair.a, then.columns)
            other = there.digest(reading, self.limit.stop)
            self._progress(reading.table, reading.table.bytes, 0 if other is None else other.rows)
        if other is None:
            return
        compared = compare(
            Facts(origin="dump", rules=here.rules, tables=(then,), zone_samples=here.zone_samples),
            Facts(origin="dump", rules=there.rules, tables=(other,), zone_samples=there.zone_samples),
        ).tables[0]
        rows = (then.rows, other.rows) if where == "a" else (other.rows, then.rows)
        if compared.equal:
            self._result(number, "equal", level="digest", rows_a=rows[0], rows_b=rows[1], only_a=0, only_b=0, changed=0)
        elif compared.equal is False:
            self._result(number, "different", level="digest", rows_a=rows[0], rows_b=rows[1])

    @staticmethod
    def _recorded_by(side: OpenSide, pair: Pair) -> TableFacts | None:
        for table in side.facts.tables if side.facts is not None else ():
            if (table.schema_name, table.name) == (pair.relation.schema, pair.relation.name):
                return table if table.digest is not None else None
        return None

    # Rows --------------------------------------------------------------------------------------------------------

    def _to_count(self, number: int) -> bool:
        result = self.results[number]
        return (self.level == "count" or self.keep) and result.state == "different"

    def _count(self, numbers: Sequence[int]) -> None:
        with self.tally.session() as cursor:
            for number in numbers:
                pair = self.pairs[number]
                self.forms[number] = Form(pair.columns, pair.keys[0] if pair.keys else ())
                self.tally.prepare(cursor, number, self.forms[number])
        self._done = 0
        self._total = sum(self._size(self.pairs[number], both=True) for number in numbers)
        self._read(numbers, self._store, self._finish)
        for number in numbers:
            result = self.results.get(number)
            if result is None:
                self._result(number, "not compared", why=self.limit.why)
            elif not result.counted and not result.why:
                self.results[number] = result.model_copy(update={"why": self.limit.why})

    def _store(self, name: SideName, reading: Reading, blocks: Generator[Block]) -> None:
        form = self.forms[reading.number]
        with self.tally.session() as cursor, closing(blocks):
            for block in blocks:
                rows = self.tally.add(cursor, reading.number, form, name, block)
                self._progress(reading.table, len(block.data), rows)

    def _finish(self, number: int) -> None:
        """Count the rows of a pair of which both sides are stored."""
        form, pair = self.forms[number], self.pairs[number]
        why = pair.why
        with self.tally.session() as cursor:
            counts = self.tally.count(cursor, number, form)
            if counts.repeated:
                key = ", ".join(form.key)
                why = f"several rows have the same key ({key}): compared as whole rows" + (f"; {why}" if why else "")
                form = self.forms[number] = Form(form.columns)
            differs = bool(counts.only_a or counts.only_b or counts.changed)
            if differs and self.keep:
                if counts.repeated:
                    self._store_again(number)
                self.tally.keep_differing(cursor, number)
            self.tally.drop(cursor, number)
        state: State = "only b" if pair.a is None else "only a" if pair.b is None else "equal"
        self._result(number, "different" if differs and state == "equal" else state, counts=counts, why=why)

    def _store_again(self, number: int) -> None:
        """Store both sides again, as a multiset: their rows have no key after all."""
        with self.tally.session() as cursor:
            self.tally.prepare(cursor, number, self.forms[number])
        for name, readings in self._readings([number]).items():
            for portion in self._side(name).read(readings, self.limit.stop):
                self._store(name, portion.reading, portion.blocks)

    def _side(self, name: SideName) -> OpenSide:
        return self.a if name == "a" else self.b

    def _readings(self, numbers: Sequence[int]) -> dict[SideName, list[Reading]]:
        found: dict[SideName, list[Reading]] = {"a": [], "b": []}
        for number in numbers:
            pair = self.pairs[number]
            for name, table in (("a", pair.a), ("b", pair.b)):
                if table is not None and not table.unreadable:
                    found["a" if name == "a" else "b"].append(Reading(number, table, pair.columns))
        return found

    def _read(self, numbers: Sequence[int], take: _Take, finish: Callable[[int], None]) -> None:
        """Read both sides of these pairs, several tables at a time, and finish each pair when both sides are read."""
        tasks: list[tuple[int, Callable[[], None]]] = []
        readings = self._readings(numbers)
        left = {
            number: {name for name in readings for each in readings[name] if each.number == number}
            for number in numbers
        }
        place = {number: at for at, number in enumerate(numbers)}

        def done(name: SideName, number: int) -> None:
            with self._lock:
                left[number].discard(name)
                last = not left[number]
            if last:
                finish(number)

        for name, wanted in readings.items():
            if self._side(name).in_order:
                tasks.append((-1, partial(self._take_all, name, wanted, take, done)))
            else:
                tasks += [(place[each.number], partial(self._take_all, name, [each], take, done)) for each in wanted]
        tasks.sort(key=lambda task: task[0])
        self._each([task for _, task in tasks])

    def _take_all(
        self, name: SideName, readings: Sequence[Reading], take: _Take, done: Callable[[SideName, int], None]
    ) -> None:
        left = {reading.number for reading in readings}
        try:
            for portion in self._side(name).read(readings, self.limit.stop):
                take(name, portion.reading, portion.blocks)
                if portion.last:
                    left.discard(portion.reading.number)
                    done(name, portion.reading.number)
            for number in left:
                done(name, number)
        except psycopg.Error as error:
            if error.sqlstate is None:  # the connection is lost
                raise
            for reading in readings:
                self._result(reading.number, "not compared", why=_words(error))

    # Threads -----------------------------------------------------------------------------------------------------

    def _each(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks, ``SESSIONS`` at a time. The end of the time ends them without an error. Raises the first error."""
        import duckdb

        with self._interruptible(), ThreadPoolExecutor(SESSIONS, thread_name_prefix="lastgood-difference") as pool:
            futures: list[Future[None]] = [pool.submit(self._unless_stopped, task) for task in tasks]
            failed: BaseException | None = None
            for future in futures:
                try:
                    future.result()
                except (Interrupted, duckdb.InterruptException):
                    if self.limit.context.cancelled():
                        failed = failed or Interrupted(INTERRUPTED)
                except BaseException as error:
                    failed = failed or error
                    self.limit.failed.set()
        if failed is not None:
            raise failed
        self.limit.context.check(INTERRUPTED)

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """End the queries of DuckDB when the work has to stop: they may take minutes."""
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(0.25):
                if self.limit.stop():
                    self.tally.interrupt()

        watcher = threading.Thread(target=watch, name="lastgood-cancel", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _unless_stopped(self, task: Callable[[], None]) -> None:
        if not self.limit.stop():
            task()

    def _size(self, pair: Pair, *, both: bool = False) -> int:
        sizes = [table.bytes for table in (pair.a, pair.b) if table is not None]
        return sum(sizes) if both else max(sizes)

    def _progress(self, table: Table, size: int, rows: int) -> None:
        with self._lock:
            self._done += size
            self._rows += rows
            total = max(self._total, self._done)
            self.limit.context.emit(
                Progress(self.stage, self._done, total, "bytes", rows=self._rows, detail=str(table.relation))
            )

    # Results -----------------------------------------------------------------------------------------------------

    def _result(
        self,
        number: int,
        state: State,
        *,
        level: Level = "count",
        counts: Counts | None = None,
        rows_a: int | None = None,
        rows_b: int | None = None,
        only_a: int | None = None,
        only_b: int | None = None,
        changed: int | None = None,
        why: str = "",
    ) -> None:
        pair = self.pairs[number]
        form = self.forms.get(number)
        if counts is not None:
            rows_a, rows_b, only_a, only_b = counts.rows_a, counts.rows_b, counts.only_a, counts.only_b
            changed = counts.changed if form is not None and form.key else None
        with self._lock:
            self.results[number] = TableDifference(
                schema_name=pair.relation.schema,
                name=pair.relation.name,
                state=state,
                level=level,
                rows_a=rows_a,
                rows_b=rows_b,
                only_a=only_a,
                only_b=only_b,
                changed=changed,
                key=form.key if form is not None else pair.keys[0] if pair.keys else (),
                columns=pair.columns,
                columns_a=pair.columns_a,
                columns_b=pair.columns_b,
                types=pair.types,
                renames=pair.renames,
                why=why or pair.why,
            )

    def renames(self) -> Iterator[Rename]:
        """Proposals for tables that only one side has."""
        for old, new in renamed_tables([*self.pairs.values()]):
            yield Rename(a=str(old.relation), b=str(new.relation), why="same definition")

    def collected(self, table: TableDifference) -> int | None:
        """The number of a table whose differing rows are collected now; None if it has none."""
        number = next(number for number, each in self.results.items() if each.table == table.table)
        if number not in self.forms or not (table.only_a or table.only_b or table.changed):
            return None
        if number not in self._collected:
            with self.tally.session() as cursor:
                self.tally.prepare_rows(cursor, number, self.forms[number])
            self._read([number], self._collect, lambda number: None)
            self._collected.add(number)
        return number

    def _collect(self, name: SideName, reading: Reading, blocks: Generator[Block]) -> None:
        form = self.forms[reading.number]
        with self.tally.session() as cursor, closing(blocks):
            for block in blocks:
                self.tally.collect(cursor, reading.number, form, name, block)


def _words(error: psycopg.Error) -> str:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return "another session has locked it"
    return words(error)
