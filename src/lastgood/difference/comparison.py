"""The comparison of two sides: digests first where one side has recorded them, then the rows of what differs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lastgood.context import BACKGROUND, Context
from lastgood.difference.limit import Limit
from lastgood.difference.pairing import narrowed, pairs
from lastgood.difference.results import Change, Level, Rename, TableDifference
from lastgood.difference.sides import OpenSide, Side, SideName
from lastgood.difference.tally import Tally
from lastgood.difference.work import ComparisonState, References, no_references
from lastgood.dump.names import Relation

if TYPE_CHECKING:
    import pyarrow

FileForm = Literal["csv", "json", "parquet"]
_WRITERS: dict[FileForm, str] = {"csv": "FORMAT csv, HEADER", "json": "FORMAT json", "parquet": "FORMAT parquet"}


class Comparison:
    """A finished comparison; ``tables`` has every table of both sides, by name; ``ignored``: the columns that were not
    compared. Usable in the ``with`` block of ``compared``: rows are read in the same snapshots."""

    def __init__(self, work: ComparisonState) -> None:
        self._work = work
        self.tables: tuple[TableDifference, ...] = tuple(work.results[number] for number in sorted(work.results))
        self.renames: tuple[Rename, ...] = work.renames
        self.ignored = {pair.relation: pair.ignored for pair in work.pairs.values() if pair.ignored}

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
    columns: Callable[[Relation, str], bool] = lambda relation, name: True,
    check: Callable[[Collection[Relation]], None] = lambda relations: None,
    by_root: bool = True,
    digests: bool = True,
    references: References = no_references,
    seconds: float | None = None,
    folder: Path | None = None,
    context: Context = BACKGROUND,
    stage: str = "difference",
) -> Iterator[Comparison]:
    """Compare two sides table by table, for the length of a ``with`` block.

    ``level``: see ``Level``. ``keep`` keeps the keys of differing rows, so that ``Comparison.rows`` can read them.
    ``only``: the tables to compare, by name; ``columns``: their columns. ``check`` gets the names of all tables before
    any is read, and may refuse them by raising. ``by_root``: a table whose partitions differ is compared as a whole.
    ``digests``: compare digests first where a side has recorded them, and read the rows only of tables that differ.
    ``references``: of the columns of a table, those whose values ``TableDifference.referenced`` counts.
    ``seconds``: a time limit; tables that were not finished are reported as such. ``folder``: the place of temporary
    files, the system's without one. Emits Progress of ``stage`` in bytes.

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
        work = ComparisonState(opened["a"], opened["b"], tally, level, keep, Limit(seconds, context), stage, references)
        found = pairs(opened["a"].tables, opened["b"].tables, by_root=by_root)
        check([pair.relation for pair in found])
        chosen = [narrowed(pair, columns) for pair in found if only(pair.relation)]
        work.run(chosen, digests=digests or level == "digest")
        work.limit.without_end()  # for the second reading
        yield Comparison(work)
