"""The work of a comparison: tasks over tables, several at a time, within a time limit."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import psycopg

from lastgood.difference.in_step import line_count
from lastgood.difference.limit import Limit, is_interrupt, words_of
from lastgood.difference.pair_rows import SIDES, PairRows
from lastgood.difference.pairing import Pair, pair_of, renamed_tables
from lastgood.difference.recorded import Records, larger, other_text
from lastgood.difference.results import Level, Rename, State, TableDifference
from lastgood.difference.sides import Block, OpenSide, SideName, SideTable
from lastgood.difference.tally import Counts, RowForm, Tally
from lastgood.dump.names import Relation
from lastgood.errors import Interrupted
from lastgood.events import Progress

References = Callable[[Relation, tuple[str, ...]], tuple[str, ...]]
SESSIONS = 2
INTERRUPTED = "cannot continue the comparison: interrupted"


def no_references(relation: Relation, columns: tuple[str, ...]) -> tuple[str, ...]:
    """No columns."""
    return ()


@dataclass(slots=True)
class ComparisonState:
    """The state of a comparison. Pairs have numbers."""

    a: OpenSide
    b: OpenSide
    tally: Tally
    level: Level
    keep: bool
    limit: Limit
    stage: str
    references: References = no_references
    results: dict[int, TableDifference] = field(default_factory=dict)
    forms: dict[int, RowForm] = field(default_factory=dict)
    pairs: dict[int, Pair] = field(default_factory=dict)
    renames: tuple[Rename, ...] = ()
    _records: Records | None = None
    _collected: set[int] = field(default_factory=set)
    _rows_read: Counter[tuple[int, SideName]] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _done: int = 0
    _total: int = 0
    _rows: int = 0

    def run(self, found: Sequence[Pair], *, digests: bool) -> None:
        """Compare all pairs."""
        self.pairs = dict(enumerate(found))
        self._records = Records(self.a, self.b) if digests else None
        unread = [number for number, pair in self.pairs.items() if not self._settled(number, pair)]
        unread.sort(key=lambda number: self._size(self.pairs[number]))
        if digests:
            known = [number for number in unread if self._recorded(self.pairs[number])]
            self._total = sum(self._size(self.pairs[number]) for number in known)
            self._each([partial(self._digest, number) for number in known])
        rest = [number for number in unread if number not in self.results or self._to_count(number)]
        if no_rows := self.a.no_rows or self.b.no_rows:
            for number in rest:
                self._result(number, "not compared", why=self.limit.why if self.limit.over else no_rows)
        elif rest:
            self._count(rest)
        self.renames = tuple(self._proposed(found))

    # What needs no reading ---------------------------------------------------------------------------------------

    def _settled(self, number: int, pair: Pair) -> bool:
        if pair.a is None or pair.b is None:
            table = pair.a or pair.b
            if self.keep and table is not None and not table.unreadable:
                return False
            self._one_sided(number, pair)
            return True
        why = pair.a.unreadable or pair.b.unreadable
        if not self._recorded(pair):  # equal digests prove equal content under any settings
            why = why or other_text(self.a, self.b, pair.a, pair.b)
        if why:
            self._result(number, "not compared", why=why)
        elif not pair.columns and (pair.a.columns or pair.b.columns):
            self._result(number, "not compared", why="no column exists on both sides")
        else:
            return False
        return True

    def _recorded(self, pair: Pair) -> bool:
        return self._records is not None and self._records.side_of(pair) is not None

    def _one_sided(self, number: int, pair: Pair) -> None:
        side = self.a if pair.b is None else self.b
        table = pair.a or pair.b
        assert table is not None
        rows, why = table.rows, table.unreadable
        columns = self.references(pair.relation, pair.columns)
        referenced = None if columns else 0
        if rows is None and not why:
            try:
                rows = side.count(table)
                referenced = side.count(table, columns) if columns else 0
            except psycopg.Error as error:
                why = words_of(error)
        if pair.b is None:
            self._result(number, "only a", rows_a=rows, only_a=rows, only_b=0, changed=0, why=why)
        else:
            self._result(
                number, "only b", rows_b=rows, only_a=0, only_b=rows, changed=0, referenced=referenced, why=why
            )

    # Digests -----------------------------------------------------------------------------------------------------

    def _digest(self, number: int) -> None:
        try:
            assert self._records is not None  # made by ``run``
            counted = (self.level == "count" or self.keep) and not self.a.no_rows and not self.b.no_rows
            found = self._records.compared(self.pairs[number], number, self.limit.stop, counted=counted)
        except psycopg.Error as error:
            if error.sqlstate is None:  # the connection is lost
                raise
            self._result(number, "not compared", why=words_of(error))
            return
        self._progress(larger(self.pairs[number]), self._size(self.pairs[number]), 0)
        if found is None:
            pair = self.pairs[number]
            assert pair.a is not None and pair.b is not None  # a digest of one was compared with the other
            if why := other_text(self.a, self.b, pair.a, pair.b):
                self._result(number, "not compared", why=why)
            return
        equal, rows_a, rows_b = found
        none = 0 if equal else None
        self._result(
            number,
            "equal" if equal else "different",
            level="digest",
            rows_a=rows_a,
            rows_b=rows_b,
            only_a=none,
            only_b=none,
            changed=none,
        )

    # Rows --------------------------------------------------------------------------------------------------------

    def _to_count(self, number: int) -> bool:
        result = self.results[number]
        return (self.level == "count" or self.keep) and result.state == "different"

    def _count(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            pair = self.pairs[number]
            references = self.references(pair.relation, pair.columns)
            self.forms[number] = RowForm(pair.columns, pair.keys[0] if pair.keys else (), references)
        self._done = 0
        self._total = sum(self._size(self.pairs[number], both=True) for number in numbers)
        self._each(self._reading(numbers, self._store, self._finish))
        for number in numbers:
            result = self.results.get(number)
            if result is None:
                self._result(number, "not compared", why=self.limit.why)
            elif not result.counted and not result.why:
                self.results[number] = result.model_copy(update={"why": self.limit.why})

    def _store(self, name: SideName, number: int, block: Block) -> None:
        self.tally.add(number, self.forms[number], name, block, whole=self.keep)

    def _finish(self, number: int) -> None:
        """Count the rows of a pair of which both sides are stored."""
        form, pair = self.forms[number], self.pairs[number]
        why = pair.why
        counts = self.tally.count(number, form)
        rows = {name: self._rows_read[number, name] for name in SIDES}
        if counts.repeated:
            key = ", ".join(form.key)
            why = f"duplicate key ({key}); compared by whole rows" + (f"; {why}" if why else "")
            form = self.forms[number] = replace(form, key=())
        differs = bool(counts.only_a or counts.only_b or counts.changed)
        if differs and self.keep:
            if counts.repeated:
                self._store_again(number)
            self.tally.keep_differing(number)
        self.tally.drop(number)
        state: State = "only b" if pair.a is None else "only a" if pair.b is None else "equal"
        state = "different" if differs and state == "equal" else state
        self._result(number, state, counts=counts, rows_a=rows["a"], rows_b=rows["b"], why=why)

    def _store_again(self, number: int) -> None:
        """Store both sides again, as a multiset: their rows have no key after all."""
        self.tally.drop(number)
        for task in self._reading([number], self._store):
            task()

    def _reading(
        self,
        numbers: Sequence[int],
        take: Callable[[SideName, int, Block], None],
        finish: Callable[[int], None] = lambda number: None,
        *,
        copies: bool = False,
    ) -> list[Callable[[], None]]:
        """The work of reading both sides of these pairs. ``copies``: take all copies of a row that has no key."""

        def in_step(number: int) -> bool:
            key, pair = self.forms[number].key, self.pairs[number]
            if not key:
                return not copies
            # Equal rows that are left out must not hide that a key has other rows, too.
            return pair.a is not None and pair.b is not None and key in pair.a.sure and key in pair.b.sure

        return PairRows(
            self.a, self.b, self.pairs, self.limit, in_step, self._came, take, finish, self._unreadable
        ).tasks(numbers)

    def _came(self, name: SideName, number: int, data: bytes) -> None:
        rows = line_count(data)
        pair = self.pairs[number]
        table = pair.a if name == "a" else pair.b
        assert table is not None  # it was read
        with self._lock:
            self._rows_read[number, name] += rows
        self._progress(table, len(data), rows)

    def _unreadable(self, number: int, why: str) -> None:
        self._result(number, "not compared", why=why)

    # Threads -----------------------------------------------------------------------------------------------------

    def _each(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run tasks, ``SESSIONS`` at a time. The end of the time ends them without an error. Raises the first error."""
        with self._interruptible(), ThreadPoolExecutor(SESSIONS, thread_name_prefix="lastgood-difference") as pool:
            futures: list[Future[None]] = [pool.submit(self._unless_stopped, task) for task in tasks]
            failed: BaseException | None = None
            for future in futures:
                try:
                    future.result()
                except BaseException as error:
                    if not is_interrupt(error):
                        failed = failed or error
                        self.limit.failed.set()
                    elif self.limit.context.cancelled():
                        failed = failed or Interrupted(INTERRUPTED)
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

    def _progress(self, table: SideTable, size: int, rows: int) -> None:
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
        referenced: int | None = None,
        why: str = "",
    ) -> None:
        pair = self.pairs[number]
        form = self.forms.get(number)
        if counts is not None:
            only_a, only_b = counts.only_a, counts.only_b
            changed = counts.changed if form is not None and form.key else None
            referenced = counts.referenced
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
                referenced=referenced,
                why=why or pair.why,
            )

    def _proposed(self, found: Sequence[Pair]) -> Iterator[Rename]:
        """Proposals for tables that only one side has; their content is compared in the time that is left."""
        for old, new in renamed_tables(found):
            other = ComparisonState(self.a, self.b, self.tally, "count", False, self.limit, self.stage)
            other.run([pair_of(old.relation, old.a, new.b)], digests=False)
            same = other.results[0].state == "equal"
            yield Rename(a=str(old.relation), b=str(new.relation), why="same content" if same else "same definition")

    def collected(self, table: TableDifference) -> int | None:
        """The number of a table whose differing rows are collected now; None if it has none."""
        number = next(number for number, each in self.results.items() if each.table == table.table)
        if number not in self.forms or not (table.only_a or table.only_b or table.changed):
            return None
        if number not in self._collected:
            with self.tally.session() as cursor:
                self.tally.prepare_rows(cursor, number, self.forms[number])
            self._each(self._reading([number], self._collect, copies=True))
            self._collected.add(number)
        return number

    def _collect(self, name: SideName, number: int, block: Block) -> None:
        self.tally.collect(number, self.forms[number], name, block)
